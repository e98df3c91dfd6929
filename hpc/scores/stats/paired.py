"""Score of a model on its arms: by event, pooled or averaged, and the paired difference of two arms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.ratios import Array, quotient
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import Interval, interval
from polarcast.hpc.scores.stats.significance import hering_genton, probability_of_improvement


@dataclass(frozen=True)
class Sums:
    """Sums that a score is computed from.

    Attributes:
        score: The score.
        protocol: Coordinates of the records.
        values: Sums of each seed and event, (k, e, s).
    """

    score: Score
    protocol: Protocol
    values: Array

    @classmethod
    def of(cls, score: Score, runs: Sequence[Records]) -> "Sums":
        """Select the sums of runs that differ only in seed. Raises BadInput if a run lacks them."""
        return cls(score, runs[0].protocol, np.stack([score.sums(run) for run in runs]))

    def score_of(self, sums: Array) -> Array:
        """Compute the score (…) of sums (…, s)."""
        return self.score.of(sums, self.protocol)


@dataclass(frozen=True)
class Pair:
    """Paired difference dualpol − radar.

    Attributes:
        interval: The difference with its interval.
        by_event: Difference of each event, (e,).
        improved: Probability of improvement, the share of events in which dualpol is better.
        cross_check: Hering–Genton p-value, for continuous scores and the CRPS only; NaN for others.
    """

    interval: Interval
    by_event: Array
    improved: float
    cross_check: float


def of_events(sums: Sums) -> Array:
    """Compute the score of each event over all seeds, (e,); NaN where undefined."""
    return sums.score_of(sums.values.sum(0))


def of_one(sums: Sums, aggregation: str) -> Interval:
    """Compute the score on all events, pooled or averaged, with its interval."""
    if aggregation == POOLED:
        return interval(sums.values, sums.score_of)
    return interval(_as_mean(sums.score_of(sums.values)), _mean)


def compared(radar: Sums, dualpol: Sums, aggregation: str) -> Pair:
    """Compare two arms, with the same events of both in each draw.

    Args:
        radar: Sums of the radar arm.
        dualpol: Sums of the dualpol arm, of the same events.
        aggregation: pooled or mean.
    """
    by_event = of_events(dualpol) - of_events(radar)
    if aggregation == POOLED:
        width = radar.values.shape[-1]
        both = np.concatenate([radar.values, dualpol.values], -1)
        difference = interval(both, lambda s: dualpol.score_of(s[..., width:]) - radar.score_of(s[..., :width]))
    else:
        difference = interval(_as_mean(dualpol.score_of(dualpol.values) - radar.score_of(radar.values)), _mean)
    perfect = radar.score.metric.perfect
    better = abs(of_events(radar) - perfect) - abs(of_events(dualpol) - perfect)
    continuous = radar.score.family_name in ("continuous", "crps")
    p_value = hering_genton(by_event)[1] if continuous else np.nan
    return Pair(difference, by_event, probability_of_improvement(better), p_value)


def _as_mean(values: Array) -> Array:
    """Convert values (k, e) with NaN to sums (k, e, 2) whose quotient is the mean of the defined values."""
    defined = np.isfinite(values)
    return np.stack([np.where(defined, values, 0), defined], -1)


def _mean(sums: Array) -> Array:
    return quotient(sums[..., 0], sums[..., 1])
