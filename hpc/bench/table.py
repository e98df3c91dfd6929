"""Build tables of scores by arm and of their differences, with intervals. Pure functions of the records."""

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
"""Records of each seed, by (model, arm)."""
DIFFERENCE = "difference"
ARM_NAMES = {"radar": "radar", "dualpol": "dual-pol", DIFFERENCE: "dual-pol − radar"}


@dataclass(frozen=True)
class Record:
    """One number of a table.

    Attributes:
        table, model, label, arm: Position in the table; `arm` is radar, dualpol or difference (dualpol − radar).
        metric: Score and coordinates, such as `csi@threshold=10`.
        unit: Unit of the value.
        value, low, high: Value and its 95% interval; None where undefined.
        events, support: Number of events scored, and number of events whose own score is defined.
        seeds: Number of runs that differ only in their seed.
        aggregation: pooled (score of the sums over all events) or mean (mean of the events' scores).
        p_value, p_holm: Bootstrap p-value of a difference, without and with Holm correction over the table.
        detectable: Smallest true difference that these events would detect with 80% power.
        improved: Share of events on which dualpol is better; only for differences.
        cross_check: p-value of a difference of continuous scores by Hering & Genton's Diebold–Mariano test.
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
        """Whether the interval excludes zero; False without an interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_row(self) -> dict[str, object]:
        """Return plain values for JSON, CSV and Parquet."""
        return asdict(self)


@dataclass(frozen=True)
class ComparisonTable:
    """A table to show: title, records, layout, and a note on its data."""

    title: str
    records: list[Record]
    protocol: Protocol
    note: str = ""
    rows: Sequence[str] = field(default_factory=lambda: ["model", "metric"])
    columns: Sequence[str] = field(default_factory=lambda: ["arm"])

    def as_record(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"title": self.title, "note": self.note, "records": [r.as_row() for r in self.records]}


def build_table(name: str, suite: Suite, scores: Scores, note: str = "") -> ComparisonTable:
    """Build a table: each arm, and dualpol − radar where both were run.

    Args:
        name: Name of the table.
        suite: Suite that defines the table's models, scores, aggregation and layout.
        scores: Records of every run.
        note: Note on the data.

    Raises:
        BadInput: runs were scored on different events, or their records lack a score.
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
    """Return the records of each arm shown; of another model's radar arm, only as many seeds as this model has."""
    found = {arm: scores[source, arm] for arm, source in suite.model_by_arm(model).items() if arm in arms}
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
    """Add p-values with Holm's correction over the differences of the table."""
    adjusted = holm([np.nan if r.p_value is None else r.p_value for r in records])
    return [replace(r, p_holm=_number(p)) for r, p in zip(records, adjusted, strict=True)]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
