"""Which host slows the others down: the time each rank spends on its own, before it has to wait for anyone."""

import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch

_SLOW, _NOTABLE_SECONDS = 1.5, 0.05
"""Times the median of the others, and by so much: a few milliseconds come and go."""


class OwnTime:
    """Time in the forward passes of a model, in which no rank waits for another (but at ZeRO stage 3).

    In the backward pass all wait for the slowest, and look alike.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._passes: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._passes.append((self._now(), None))

    def __exit__(self, *_: object) -> None:
        self._passes[-1] = (self._passes[-1][0], self._now())

    def take(self) -> float:
        """Seconds since the last call."""
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
    """The rank that takes longest: its number, host, seconds, and how many times the median of the others that is."""
    rank = max(range(len(seconds)), key=seconds.__getitem__)
    others = statistics.median([s for r, s in enumerate(seconds) if r != rank] or [seconds[rank]])
    times = seconds[rank] / others if others else 1.0
    late = seconds[rank] - others
    return {
        "rank": rank, "host": hosts[rank], "seconds": round(seconds[rank], 4), "late": round(late, 4),
        "times": round(times, 2),
    }  # fmt: skip


def is_straggler(found: dict[str, Any]) -> bool:
    """Whether the slowest is much slower than the others."""
    return bool(found["times"] > _SLOW and found["late"] > _NOTABLE_SECONDS)
