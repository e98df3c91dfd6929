"""Score records → a table of arms and their difference, with intervals. Pure functions of the records."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.records import Records, common_events
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.stats.paired import Pair, Sums, compared, of_events, of_one
from polarcast.hpc.scores.stats.significance import holm, minimum_detectable_effect

Scores = Mapping[tuple[str, str], Sequence[Records]]
"""(model, arm) → records of each seed."""
DIFFERENCE = "difference"
ARM_NAMES = {"radar": "radar", "dualpol": "dual-pol", DIFFERENCE: "dual-pol − radar"}


@dataclass(frozen=True)
class Record:
    """One number of a table.

    Attributes:
        table, model, label, arm: Where it stands; `arm` is radar, dualpol or difference (dualpol − radar).
        metric: Score and coordinates, as `csi@threshold=10`.
        unit: Of the value.
        value, low, high: With its 95% interval; None where undefined.
        events, support: Events scored, and those of them on which the score alone is defined.
        seeds: Runs that differ in their seed.
        aggregation: pooled (the score of all events' sums) or mean (the mean of the events' scores).
        p_value, p_holm: Of a difference: bootstrap p-value, and as corrected for all differences of the table.
        detectable: Of a difference: the smallest true one that so many events would show with 80% power.
        improved: Of a difference: share of events on which dualpol is better.
        cross_check: Of a difference of continuous scores: p-value by Hering & Genton's Diebold–Mariano test.
    """

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
    support: int
    seeds: int
    aggregation: str
    p_value: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    improved: float | None = None
    cross_check: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; False where there is none."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_row(self) -> dict[str, object]:
        """For JSON, CSV and Parquet."""
        return asdict(self)


@dataclass(frozen=True)
class ComparisonTable:
    """A table as it is shown: its heading, records, layout, and what must be said about the data it stands on."""

    title: str
    records: list[Record]
    protocol: Protocol
    note: str = ""
    rows: Sequence[str] = field(default_factory=lambda: ["model", "metric"])
    columns: Sequence[str] = field(default_factory=lambda: ["arm"])

    def as_record(self) -> dict[str, object]:
        """For JSON."""
        return {"title": self.title, "note": self.note, "records": [r.as_row() for r in self.records]}


def build_table(name: str, suite: Suite, scores: Scores, note: str = "") -> ComparisonTable:
    """A table: each arm, and dualpol − radar where both were run.

    Args:
        name: Of the table.
        suite: Which models it shows, which scores, how put together and laid out.
        scores: The records of every run.
        note: What must be said about the data.

    Raises:
        BadInput: runs were scored on different events, or their records don't hold a score.
    """
    spec = suite.tables[name]
    runs = {model: _by_arm(suite, model, spec.arms or suite.arms, scores) for model in suite.shown(spec)}
    every = [run for arms in runs.values() for seeds in arms.values() for run in seeds]
    common_events(every)
    protocol = every[0].protocol
    records = [
        record
        for model, arms in runs.items()
        for text in spec.metrics
        for score in expand(parse_score(text), protocol)
        for record in _records(name, model, suite.models[model].label, score, spec.aggregation, arms)
    ]
    return ComparisonTable(spec.title, _corrected(records), protocol, note, spec.rows, spec.columns)


def _by_arm(suite: Suite, model: str, arms: Sequence[str], scores: Scores) -> dict[str, Sequence[Records]]:
    """Records of each arm shown; of another model's only the seeds that this one has, too."""
    found = {arm: scores[of, arm] for arm, of in suite.beside(model).items() if arm in arms}
    seeds = min(len(runs) for runs in found.values())
    return {arm: runs[:seeds] if suite.models[model].radar_of else runs for arm, runs in found.items()}


def _records(
    table: str, model: str, label: str, score: Score, aggregation: str, by_arm: Mapping[str, Sequence[Records]]
) -> list[Record]:
    sums = {arm: Sums.of(score, runs) for arm, runs in by_arm.items()}
    first = next(iter(sums.values()))
    plain = Record(
        table=table,
        model=model,
        label=label,
        arm="",
        metric=str(score),
        unit=score.unit(first.protocol),
        value=None,
        low=None,
        high=None,
        events=first.values.shape[1],
        support=0,
        seeds=len(first.values),
        aggregation=aggregation,
    )
    limits = score.metric.limits
    found = [_filled(plain, arm, of_one(of, aggregation).within(*limits), of_events(of)) for arm, of in sums.items()]
    if {"radar", "dualpol"} <= sums.keys():
        pair = compared(sums["radar"], sums["dualpol"], aggregation)
        found.append(_difference(_filled(plain, DIFFERENCE, pair.interval, pair.by_event), pair))
    return found


def _filled(plain: Record, arm: str, found: Interval, by_event: np.ndarray) -> Record:
    support = int(np.isfinite(by_event).sum())
    value, low, high = (_number(x) for x in (found.value, found.low, found.high))
    return replace(plain, arm=arm, support=support, value=value, low=low, high=high)


def _difference(plain: Record, pair: Pair) -> Record:
    return replace(
        plain,
        p_value=_number(pair.interval.p_value),
        detectable=_number(minimum_detectable_effect(pair.interval.error)),
        improved=_number(pair.improved),
        cross_check=_number(pair.cross_check),
    )


def _corrected(records: Sequence[Record]) -> list[Record]:
    """With Holm's correction over the differences of the table."""
    adjusted = holm([np.nan if r.p_value is None else r.p_value for r in records])
    return [replace(r, p_holm=_number(p)) for r, p in zip(records, adjusted, strict=True)]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
