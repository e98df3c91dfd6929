"""Time contenders in turn, so that other load on the machine affects all of them."""

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from polarcast.data.cores import usable_cores
from polarcast.hpc.perf.busy import Switch

Run = Callable[[], float]
"""Function that does the work once and returns its amount, in the row's unit times seconds."""


@dataclass(frozen=True)
class PerfRow:
    """Speed of one contender: median and quartiles over the rounds."""

    name: str
    value: float
    unit: str
    low: float
    high: float
    rounds: tuple[float, ...] = ()
    """Speed in each round."""
    busy: "PerfRow | None" = None
    """The same with spinning neighbors, if it was measured."""


@dataclass(frozen=True)
class Measured:
    """Result of a measurement, as `--json` prints it."""

    perf: str
    machine: dict[str, Any]
    rows: list[PerfRow]
    ratios: dict[str, float]
    notes: dict[str, str] = field(default_factory=dict)
    """Assumptions, agreement checks, and what could not be measured."""
    neighbors: int = 0
    """Number of spinning processes in the busy half of the measurement."""
    busy_ratios: dict[str, float] = field(default_factory=dict)
    """The ratios beside them."""

    def as_record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def interleaved(
    contenders: Mapping[str, Run],
    rounds: int,
    unit: str,
    on_round: Callable[[int], None] | None = None,
    rest_seconds: float = 0.0,
    least_seconds: float = 0.0,
    switch: Switch | None = None,
) -> list[PerfRow]:
    """Run all contenders in turn, several times; the first round is a warm-up and does not count.

    A turn repeats the work until it has lasted `least_seconds`. A pause of `rest_seconds` follows each turn, so that
    background read-ahead ends before the next. With a switch of neighbors, each turn has an idle and a busy half.
    """
    speeds: dict[tuple[str, bool], list[float]] = {}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            for busy in (False, True) if switch else (False,):
                with _load(switch, busy):
                    speeds.setdefault((name, busy), []).append(_speed(run, least_seconds))
                time.sleep(rest_seconds)
        if on_round:
            on_round(number)
    rows = {key: _row(key[0], of[1:], unit) for key, of in speeds.items()}
    return [replace(row, busy=rows.get((name, True))) for (name, busy), row in rows.items() if not busy]


@contextmanager
def _load(switch: Switch | None, busy: bool) -> Iterator[None]:
    """Let the neighbors run during the block if it is to be busy."""
    if not (switch and busy):
        yield
        return
    switch(True)
    try:
        yield
    finally:
        switch(False)


def _speed(run: Run, least_seconds: float) -> float:
    started, amount, lasted = time.perf_counter(), 0.0, 0.0
    while not amount or lasted < least_seconds:
        amount += run()
        lasted = time.perf_counter() - started
    return amount / lasted


def machine() -> dict[str, Any]:
    """Return the system, the Python version and the number of cores."""
    return {"system": platform.platform(), "python": platform.python_version(), "cores": usable_cores()}


def ratio(rows: Sequence[PerfRow], one: str, other: str) -> float:
    """Return how many times as fast one contender is as another: the median over rounds of the ratio in a round."""
    by_name = {row.name: row.rounds for row in rows}
    return statistics.median(a / b for a, b in zip(by_name[one], by_name[other], strict=True))


def busy_rows(rows: Sequence[PerfRow]) -> list[PerfRow]:
    """Return the rows measured with spinning neighbors; none without them."""
    return [row.busy for row in rows if row.busy]


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
"""Peak FLOP/s from data sheets, by a part of the driver's device name: bfloat16 on tensor cores without sparsity, and
float32 without tensor cores. The first match counts."""


def peak_flops(device: torch.device, bf16: bool) -> float | None:
    """Return the peak FLOP/s of a device from its data sheet; None for unknown devices and CPUs."""
    return peak_by_name(torch.cuda.get_device_name(device), bf16) if device.type == "cuda" else None


def peak_by_name(name: str, bf16: bool) -> float | None:
    """Return the peak FLOP/s of a GPU by its name; None if unknown."""
    return next((peaks[0 if bf16 else 1] for part, peaks in _PEAKS.items() if part in name), None)
