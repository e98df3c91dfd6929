"""One score of one model on its arms: values by event, pooled or averaged, and the difference of two arms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.ratios import Array, quotient
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.bootstrap import Interval, interval
from polarcast.hpc.scores.stats.significance import hering_genton, probability_of_improvement

POOLED, MEAN = "pooled", "mean"
AGGREGATIONS = (POOLED, MEAN)


@dataclass(frozen=True)
class Sums:
    """What a score is computed from: (k, e, s) sums of each seed and event."""

    score: Score
    protocol: Protocol
    values: Array

    @classmethod
    def of(cls, score: Score, runs: Sequence[Records]) -> "Sums":
        """Of the runs that differ in their seed. Raises BadInput when they don't hold it."""
        return cls(score, runs[0].protocol, np.stack([score.sums(run) for run in runs]))

    def score_of(self, sums: Array) -> Array:
        """(…, s) → (…)."""
        return self.score.of(sums, self.protocol)


@dataclass(frozen=True)
class Pair:
    """dualpol − radar: its interval, (e,) differences by event, and two other looks at it."""

    interval: Interval
    by_event: Array
    improved: float
    cross_check: float


def of_events(sums: Sums) -> Array:
    """The score of each event alone, over all seeds: (e,); NaN where it is undefined."""
    return sums.score_of(sums.values.sum(0))


def of_one(sums: Sums, aggregation: str) -> Interval:
    """The score on all events."""
    if aggregation == POOLED:
        return interval(sums.values, sums.score_of)
    return interval(_as_mean(sums.score_of(sums.values)), _mean)


def compared(radar: Sums, dualpol: Sums, aggregation: str) -> Pair:
    """Both arms side by side, so that each draw takes the same events of both."""
    by_event = of_events(dualpol) - of_events(radar)
    if aggregation == POOLED:
        width = radar.values.shape[-1]
        both = np.concatenate([radar.values, dualpol.values], -1)
        found = interval(both, lambda s: dualpol.score_of(s[..., width:]) - radar.score_of(s[..., :width]))
    else:
        found = interval(_as_mean(dualpol.score_of(dualpol.values) - radar.score_of(radar.values)), _mean)
    perfect = radar.score.metric.perfect
    better = abs(of_events(radar) - perfect) - abs(of_events(dualpol) - perfect)
    continuous = radar.score.family_name in ("continuous", "crps")
    return Pair(
        found, by_event, probability_of_improvement(better), hering_genton(by_event)[1] if continuous else np.nan
    )


def _as_mean(values: Array) -> Array:
    """Values (k, e), some undefined → sums (k, e, 2) whose quotient is their mean."""
    defined = np.isfinite(values)
    return np.stack([np.where(defined, values, 0), defined], -1)


def _mean(sums: Array) -> Array:
    return quotient(sums[..., 0], sums[..., 1])
