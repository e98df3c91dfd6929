"""Detect slow hosts from the time that each rank spends before it waits for other ranks."""

import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch

_SLOW, _NOTABLE_SECONDS = 1.5, 0.05
"""A straggler exceeds the median of the other ranks by this factor and by this time; smaller delays are noise."""


class OwnTime:
    """Context manager that measures the forward passes of a model.

    No rank waits for another there, except at ZeRO stage 3. In the backward pass, all ranks wait for the slowest.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._passes: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._passes.append((self._now(), None))

    def __exit__(self, *_: object) -> None:
        self._passes[-1] = (self._passes[-1][0], self._now())

    def take(self) -> float:
        """Return the time measured since the last call, in seconds."""
        passes, self._passes = self._passes, []
        if self._on_gpu and passes:
            passes[-1][1].synchronize()
            return sum(begun.elapsed_time(ended) for begun, ended in passes) / 1000
        return float(sum(ended - begun for begun, ended in passes))

    def _now(self) -> Any:
        if not self._on_gpu:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def slowest(seconds: Sequence[float], hosts: Sequence[str]) -> dict[str, Any]:
    """Find the slowest rank.

    Args:
        seconds: Time of each rank.
        hosts: Host of each rank.

    Returns:
        Rank, host, seconds, and the difference ("late") and ratio ("times") to the median of the other ranks.
    """
    rank = max(range(len(seconds)), key=seconds.__getitem__)
    others = statistics.median([s for r, s in enumerate(seconds) if r != rank] or [seconds[rank]])
    times = seconds[rank] / others if others else 1.0
    late = seconds[rank] - others
    return {
        "rank": rank, "host": hosts[rank], "seconds": round(seconds[rank], 4), "late": round(late, 4),
        "times": round(times, 2),
    }  # fmt: skip


def is_straggler(found: dict[str, Any]) -> bool:
    """Return whether the rank that `slowest` found is a straggler."""
    return bool(found["times"] > _SLOW and found["late"] > _NOTABLE_SECONDS)
