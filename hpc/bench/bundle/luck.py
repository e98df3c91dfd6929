"""Whether a model that was trained anew scores as the recorded runs do, within the luck of training."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.suite import Suite, TableSpec
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import POOLED

EQUAL, ROUNDED, DIFFERS = "equal", "equal but for rounding", "differs"
_RELATIVE, _ABSOLUTE = 1e-5, 1e-6
_SENSITIVE = ("continuous", "spectrum", "crps")
"""Families of sums that no two different forecasts share."""
_SAME, _APART = 1e-7, 1e-3
"""Relative difference of sums over all events up to which forecasts are the same, and from which they are not."""
_LEVEL = 0.05


@dataclass(frozen=True)
class ScoreLuck:
    """A score of a model that was trained anew, beside those of the recorded runs.

    Attributes:
        score: The score.
        recorded: Value of the recorded run.
        again: Value of the new run.
        low, high: Limits within which one more training lies, given the recorded seeds; None with one seed.
    """

    score: str
    recorded: float
    again: float
    low: float | None
    high: float | None

    @property
    def is_within(self) -> bool | None:
        """Whether the new value is within the limits; None if luck is unknown, because there is one seed."""
        return None if self.low is None or self.high is None else self.low <= self.again <= self.high


@dataclass(frozen=True)
class Retraining:
    """Result of training a cell anew.

    Attributes:
        cell: Name of its run folder.
        sums: Whether all sums of its records are equal, equal but for rounding, or differ.
        seeds: Number of recorded runs of this model and arm.
        scores: Its headline scores, where sums differ.
        contradiction: Families of sums that differ although others show that the forecasts are the same; empty if none.
    """

    cell: str
    sums: str
    seeds: int
    scores: tuple[ScoreLuck, ...] = ()
    contradiction: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the sums are equal, or every headline score is within the luck of training."""
        if self.contradiction:
            return False
        return self.sums != DIFFERS or (bool(self.scores) and all(one.is_within for one in self.scores))

    @property
    def sentence(self) -> str:
        """The result in words."""
        if self.sums != DIFFERS:
            return f"{self.cell}: {self.sums}"
        if self.contradiction:
            return f"{self.cell}: {self.contradiction}"
        if self.seeds < 2:
            return f"{self.cell}: differs; with one seed, the luck of training is unknown"
        inside = sum(bool(one.is_within) for one in self.scores)
        return f"{self.cell}: differs; {inside} of {len(self.scores)} scores are within the luck of {self.seeds} seeds"

    def as_record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        scores = [{**asdict(one), "within": one.is_within} for one in self.scores]
        return {"cell": self.cell, "ok": self.is_ok, "sums": self.sums, "seeds": self.seeds, "scores": scores,
                "contradiction": self.contradiction}  # fmt: skip


def judged(
    cell: str, suite: Suite, model: str, recorded: Records, seeds: Sequence[Records], again: Records
) -> Retraining:
    """Compare a run that was trained anew with the recorded one, and with all recorded seeds of its model and arm.

    One more training lies within mean ± t s √(1 + 1/n) of n seeds with standard deviation s, where t has n − 1 degrees
    of freedom. The level is 95% for all headline scores together (Bonferroni).

    Args:
        cell: Name of the run folder.
        suite: The suite, whose tables tell the headline scores.
        model: Model of the run.
        recorded: Its records in the bundle.
        seeds: Records of all seeds of this model and arm in the bundle.
        again: Records of the new run.
    """
    if (sums := compared_sums(recorded, again)) != DIFFERS:
        return Retraining(cell, sums, len(seeds))
    table = headline_table(suite, model)
    scores = [score for text in table.metrics for score in expand(parse_score(text), recorded.protocol)]
    values = [(score, [_value(score, one, table.aggregation) for one in (recorded, again, *seeds)]) for score in scores]
    known = [(score, of) for score, of in values if all(map(math.isfinite, of))]
    found = [
        ScoreLuck(str(score), first, second, *limits(rest, _LEVEL / len(known)))
        for score, (first, second, *rest) in known
    ]
    return Retraining(cell, sums, len(seeds), tuple(found), contradiction(recorded, again))


def compared_sums(recorded: Records, again: Records) -> str:
    """Return whether two records have the same sums.

    Raises:
        BadInput: they are of other events or coordinates, or one lacks a family of sums.
    """
    same = recorded.protocol == again.protocol and np.array_equal(recorded.events, again.events)
    if not same or recorded.sums.keys() != again.sums.keys():
        what = "the recorded run was scored on other events or with other coordinates than this version scores"
        raise BadInput(what, "--rerun", "use the version of polarcast that scored it")
    pairs = [(recorded.sums[name], again.sums[name]) for name in again.sums]
    if all(np.array_equal(one, other, equal_nan=True) for one, other in pairs):
        return EQUAL
    is_near = all(np.allclose(one, other, _RELATIVE, _ABSOLUTE, equal_nan=True) for one, other in pairs)
    return ROUNDED if is_near else DIFFERS


def contradiction(recorded: Records, again: Records) -> str:
    """Return which recorded sums can't be of the recorded forecasts, in words; empty if that does not show.

    Luck changes the forecasts, and with them all of these families. If one is the same and another is not, somebody
    changed the records.
    """
    apart = {name: _apart(recorded.sums[name], again.sums[name]) for name in _SENSITIVE if name in again.sums}
    same = [name for name, distance in apart.items() if distance <= _SAME]
    changed = [name for name, distance in apart.items() if distance >= _APART]
    if not (same and changed):
        return ""
    are = "are" if len(same) > 1 else "is"
    return f"{' and '.join(same)} {are} equal and {' and '.join(changed)} not, which no training explains"


def _apart(one: Array, other: Array) -> float:
    """Return the largest relative difference of sums over all events."""
    first, second = one.sum(0), other.sum(0)
    largest = np.maximum(np.abs(first), np.abs(second))
    return float(np.max(np.abs(first - second) / np.where(largest > 0, largest, 1.0)))


def headline_table(suite: Suite, model: str) -> TableSpec:
    """Return the first table that shows a model, of those that the verdict sums up; the first table if none does."""
    tables = [suite.tables[name] for name in suite.verdict or suite.tables]
    return next((table for table in tables if model in suite.shown(table)), tables[0])


def limits(values: Sequence[float], level: float) -> tuple[float | None, float | None]:
    """Return the limits that one more value exceeds with a probability, given some; None with fewer than two."""
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        return None, None
    half = abs(stdtrit(count - 1, level / 2)) * np.std(values, ddof=1) * math.sqrt(1 + 1 / count)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _value(score: Score, records: Records, aggregation: str) -> float:
    sums = score.sums(records)
    if aggregation == POOLED:
        return float(score.of(sums.sum(0), records.protocol))
    by_event = score.of(sums, records.protocol)
    defined = by_event[np.isfinite(by_event)]
    return float(defined.mean()) if len(defined) else math.nan
