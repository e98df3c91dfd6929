"""Contenders that are timed in turn, so that a busy machine is busy for all of them."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

Run = Callable[[], float]
"""Does the work once and returns its amount in the row's unit times seconds."""


@dataclass(frozen=True)
class PerfRow:
    """One contender's speed: median over the rounds, and the quartiles."""

    name: str
    value: float
    unit: str
    low: float
    high: float
    rounds: tuple[float, ...] = ()
    """Of each round."""


@dataclass(frozen=True)
class Measured:
    """What `--json` prints of a measurement."""

    perf: str
    machine: dict[str, Any]
    rows: list[PerfRow]
    ratios: dict[str, float]
    notes: dict[str, str] = field(default_factory=dict)
    """What can't be told, and why; what was assumed."""

    def as_record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def interleaved(
    contenders: Mapping[str, Run],
    rounds: int,
    unit: str,
    on_round: Callable[[int], None] | None = None,
    rest_seconds: float = 0.0,
    least_seconds: float = 0.0,
) -> list[PerfRow]:
    """Run all contenders in turn, several times; the first round warms up and does not count.

    A turn is repeated until it has lasted `least_seconds`.

    After each there is a rest, in which whatever reads ahead in the background comes to an end.
    """
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            started, amount, lasted = time.perf_counter(), 0.0, 0.0
            while not amount or lasted < least_seconds:
                amount += run()
                lasted = time.perf_counter() - started
            speeds[name].append(amount / lasted)
            time.sleep(rest_seconds)
        if on_round:
            on_round(number)
    return [_row(name, of[1:], unit) for name, of in speeds.items()]


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {"system": platform.platform(), "python": platform.python_version(), "cores": len(os.sched_getaffinity(0))}


def ratio(rows: Sequence[PerfRow], one: str, other: str) -> float:
    """How many times as fast one contender is as another: the median over the rounds, each held against itself."""
    by_name = {row.name: row.rounds for row in rows}
    return statistics.median(a / b for a, b in zip(by_name[one], by_name[other], strict=True))


def _row(name: str, speeds: list[float], unit: str) -> PerfRow:
    low, middle, high = statistics.quantiles(speeds, n=4) if len(speeds) > 1 else (speeds[0],) * 3
    return PerfRow(name, middle, unit, low, high, tuple(speeds))


_PEAKS = {
    "H100 PCIe": (756e12, 51e12),
    "H100": (989e12, 67e12),
    "H200": (989e12, 67e12),
    "B200": (2250e12, 80e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "A40": (149.7e12, 37.4e12),
}
"""By a part of the name NVIDIA's driver gives: FLOP/s in bfloat16 on tensor cores without sparsity, and in float32 off
them (data sheets). The first that matches counts."""


def peak_flops(device: torch.device, bf16: bool) -> float | None:
    """Most FLOP/s of a device by its maker's word; None for one that is not known, as every CPU."""
    return peak_by_name(torch.cuda.get_device_name(device), bf16) if device.type == "cuda" else None


def peak_by_name(name: str, bf16: bool) -> float | None:
    """The same by the name of a GPU."""
    return next((peaks[0 if bf16 else 1] for part, peaks in _PEAKS.items() if part in name), None)
