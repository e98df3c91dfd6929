"""Score records → a table of arms and their difference, with intervals. Pure functions of the records."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from polarcast.hpc.bench.significance import Interval, interval
from polarcast.hpc.bench.suite import TableSpec
from polarcast.hpc.scores.metrics import METRICS, compute
from polarcast.hpc.scores.sums import EventSums, common_events

Array = npt.NDArray[np.float64]
Scores = Mapping[tuple[str, str], Sequence[EventSums]]
"""(model, arm) → scores of each seed."""
DIFFERENCE = "difference"
ARM_NAMES = {"radar": "radar", "dualpol": "dual-pol", DIFFERENCE: "dual-pol − radar"}


@dataclass(frozen=True)
class Record:
    """One number of a table. `arm` is radar, dualpol or difference (dualpol − radar); undefined limits are None."""

    table: str
    model: str
    label: str
    arm: str
    metric: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    events: int
    seeds: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; False where there is none."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_row(self) -> dict[str, object]:
        """For JSON, CSV and Parquet."""
        return asdict(self)


@dataclass(frozen=True)
class ComparisonTable:
    """A table as it is shown: its heading, its records, and what must be said about the data it stands on."""

    title: str
    records: list[Record]
    note: str = ""

    def as_record(self) -> dict[str, object]:
        """For JSON."""
        return {"title": self.title, "note": self.note, "records": [r.as_row() for r in self.records]}


def build_table(name: str, spec: TableSpec, arms: Sequence[str], scores: Scores) -> list[Record]:
    """All records of one table: each arm, and dualpol − radar where both were run.

    Raises:
        BadInput: runs were scored on different events.
    """
    return [
        record
        for model, row in spec.models.items()
        for metric in spec.metrics
        for record in _records(name, model, row.label, metric, {a: scores[model, a] for a in arms})
    ]


def _records(
    table: str, model: str, label: str, metric: str, by_arm: Mapping[str, Sequence[EventSums]]
) -> list[Record]:
    runs = [run for seeds in by_arm.values() for run in seeds]
    events = common_events(runs)
    pixels = runs[0].pixels_per_sample
    sums = {arm: _stack(seeds) for arm, seeds in by_arm.items()}

    def of(columns: Array) -> Array:
        return compute(metric, columns, pixels)

    found = {arm: interval(values, of) for arm, values in sums.items()}
    if {"radar", "dualpol"} <= sums.keys():
        found[DIFFERENCE] = _difference(sums["radar"], sums["dualpol"], metric, pixels)
    seeds = len(next(iter(by_arm.values())))
    return [
        Record(
            table=table,
            model=model,
            label=label,
            arm=arm,
            metric=metric,
            unit=METRICS[metric].unit,
            value=_number(i.value),
            low=_number(i.low),
            high=_number(i.high),
            events=len(events),
            seeds=seeds,
        )
        for arm, i in found.items()
    ]


def _difference(radar: Array, dualpol: Array, metric: str, pixels: int) -> Interval:
    """Interval of dualpol − radar: both arms side by side, so that each draw takes the same events of both."""
    columns = radar.shape[-1]

    def of(both: Array) -> Array:
        return compute(metric, both[..., columns:], pixels) - compute(metric, both[..., :columns], pixels)

    return interval(np.concatenate([radar, dualpol], -1), of)


def _stack(seeds: Sequence[EventSums]) -> Array:
    """(k, e, s): sums of each seed and event over all rain rates."""
    return np.stack([run.sums.sum(1) for run in seeds])


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
