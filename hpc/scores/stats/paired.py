"""Score of a model on its arms: by event, pooled or averaged, and the paired comparison of two arms or models.

Errors are compared as ratios, because a difference in mm/h of a pooled error is ruled by the few heaviest events; all
other scores as differences. For scores with their best value inside their range, such as a bias, the sign of the
difference does not tell which is better. The difference of the distances from the best value would, but it has a kink,
and its 95% intervals cover less than 80% of the time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.hpc.scores.metrics import Metric
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.ratios import Array, logarithm, quotient
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import DRAWS, Interval, Statistic, heaviest_share, interval
from polarcast.hpc.scores.stats.significance import minimum_detectable_effect, probability_of_improvement, sign_flip

RATIO, DISTANCE, DIFFERENCE = "ratio", "distance", "difference"
"""Scales on which two values of a score are compared (`Metric.scale`)."""
GAIN = "gain"
"""Scale on which the source paper's table 8.3 shows the MSE: first − second, so that an improvement is positive."""
_VAST = math.log(1000)
"""Half-width of an interval of a ratio that very few events give, and that is not shown."""


@dataclass(frozen=True)
class Sums:
    """Sums that a score is computed from.

    Attributes:
        score: The score.
        protocol: Coordinates of the records.
        values: Sums of each seed and event, (k, e, s).
        groups: Group of each event, (e,); groups are independent, events of one group are not.
        trained: Whether the runs depend on their seed.
    """

    score: Score
    protocol: Protocol
    values: Array
    groups: npt.NDArray[np.str_]
    trained: bool = False

    @classmethod
    def of(cls, score: Score, runs: Sequence[Records], trained: bool = False) -> "Sums":
        """Select the sums of runs that differ only in seed. Raises BadInput if a run lacks them."""
        first = runs[0]
        return cls(score, first.protocol, np.stack([score.sums(run) for run in runs]), first.groups, trained)

    def score_of(self, sums: Array) -> Array:
        """Compute the score (…) of sums (…, s)."""
        return self.score.of(sums, self.protocol)

    @property
    def lacks_seeds(self) -> bool:
        """Whether the variation between training runs is unknown, because there is only one."""
        return self.trained and len(self.values) == 1


@dataclass(frozen=True)
class Single:
    """Score of one arm.

    Attributes:
        interval: The score with its interval.
        heaviest: Largest share that one group of events has of a sum it is computed from.
        lacks_seeds: Whether the interval leaves out the variation between training runs, because there is only one.
    """

    interval: Interval
    heaviest: float
    lacks_seeds: bool


@dataclass(frozen=True)
class Pair:
    """Comparison of a second arm with a first one.

    Attributes:
        scale: ratio, difference, distance: a difference whose sign does not tell which is better, or gain.
        interval: second / first − 1 (ratio), first − second (gain) or second − first, with its interval. On the scale
            ratio, `interval.error` is of the logarithm.
        by_event: The same of each event, (e,).
        improved: Probability of improvement, the share of events in which the second is better.
        detectable: Smallest true effect that is detected with 80% power, on the scale of the interval; of a ratio the
            reduction x, so that an increase is detected from 1 / (1 + x) − 1. NaN if no possible effect is that large.
        sign_flip: p-value of the sign-flip test by groups of events, for these training runs.
        heaviest: Largest share that one group of events has of a sum it is computed from.
        lacks_seeds: Whether the interval leaves out the variation between training runs, because an arm has only one.
    """

    scale: str
    interval: Interval
    by_event: Array
    improved: float
    detectable: float
    sign_flip: float
    heaviest: float
    lacks_seeds: bool

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero and includes the variation between training runs."""
        return self.interval.excludes_zero and not self.lacks_seeds


def of_events(sums: Sums) -> Array:
    """Compute the score of each event over all seeds, (e,); NaN where undefined."""
    return sums.score_of(sums.values.sum(0))


def of_one(sums: Sums, aggregation: str) -> Single:
    """Compute the score on all events, pooled or averaged, with its interval.

    The interval of an error is made on the logarithm, where its sampling distribution is less skewed.
    """
    arms, [value] = _prepared([sums], aggregation)
    is_ratio = sums.score.metric.scale == RATIO
    found = interval(arms, (lambda s: logarithm(value(s))) if is_ratio else value)
    if is_ratio:
        found = _unless_vast(found, sums.score.metric).mapped(_exp)
        if not np.isfinite(found.value):  # 0 of a perfect forecast, or a fair CRPS below 0, has no logarithm
            found = Interval(float(value(arms[0].mean(0).sum(0))))
    by_group = arms[0].mean(0)
    return Single(found.within(*sums.score.metric.limits), heaviest_share(by_group, value), sums.lacks_seeds)


def compared(first: Sums, second: Sums, aggregation: str, draws: int = DRAWS, scale: str = "") -> Pair:
    """Compare a second arm or model with a first one, with the same groups of both in each draw.

    Args:
        first: Sums of the reference, such as the radar arm.
        second: Sums of the arm to compare with it, of the same events.
        aggregation: pooled or mean.
        draws: Number of resamples.
        scale: Scale of the comparison; by default that of the score. Errors may be compared as differences, too, but
            few heavy events rule these, and their intervals cover less.
    """
    metric = first.score.metric
    scale = scale or metric.scale
    effect = _effect(scale)
    arms, statistic = comparison_of(first, second, aggregation, scale)
    found = interval(arms, statistic, draws=draws)
    means = [arm.mean(0) for arm in arms]
    by_event = effect(of_events(first), of_events(second))
    better = abs(of_events(first) - metric.perfect) - abs(of_events(second) - metric.perfect)
    is_ratio = scale == RATIO
    reach = metric.limits[1] - metric.limits[0]
    found = _unless_vast(found, metric) if is_ratio else found
    detectable = minimum_detectable_effect(found.error)
    return Pair(
        scale=scale,
        interval=found.mapped(_expm1) if is_ratio else found.within(-reach, reach),
        by_event=np.expm1(by_event) if is_ratio else by_event,
        improved=probability_of_improvement(better),
        detectable=_expm1(-detectable) if is_ratio else detectable if detectable <= reach else math.nan,
        sign_flip=sign_flip(means[0], means[1], lambda a, b: statistic(np.concatenate([a, b], -1))),
        heaviest=heaviest_share(np.concatenate(means, -1), statistic),
        lacks_seeds=first.lacks_seeds or second.lacks_seeds,
    )  # fmt: skip


def comparison_of(
    first: Sums, second: Sums, aggregation: str = POOLED, scale: str = ""
) -> tuple[list[Array], Statistic]:
    """Return the sums of both sides by seed and group, (k, g, s), and the function whose value is their comparison.

    Its scale is that of the score by default. It takes the sums of both, concatenated along the last axis; its value
    is the logarithm of a ratio.
    """
    arms, values = _prepared([first, second], aggregation)
    effect, width = _effect(scale or first.score.metric.scale), arms[0].shape[-1]

    def statistic(s: Array) -> Array:
        return effect(values[0](s[..., :width]), values[1](s[..., width:]))

    return arms, statistic


def effect_of(first: Sums, second: Sums, aggregation: str = POOLED) -> float:
    """Compute the value of `compared` alone, without an interval."""
    metric = first.score.metric
    arms, values = _prepared([first, second], aggregation)
    totals = [value(arm.mean(0).sum(0)) for value, arm in zip(values, arms, strict=True)]
    return (math.expm1 if metric.scale == RATIO else float)(_effect(metric.scale)(*totals))


def _unless_vast(found: Interval, metric: Metric) -> Interval:
    """Return an interval of a logarithm, without its limits if they are factors apart that say nothing.

    A squared error may be apart by the square, so that MSE and RMSE have an interval on the same events.
    """
    vast = _VAST * (2 if metric.unit.endswith("²") else 1)
    return Interval(found.value) if found.high - found.low > 2 * vast else found


def _effect(scale: str) -> Callable[[Array, Array], Array]:
    """Return the function of two scores (…) that is 0 where they are equal."""
    if scale == RATIO:
        return lambda first, second: logarithm(second) - logarithm(first)
    if scale == GAIN:
        return lambda first, second: first - second
    return lambda first, second: second - first


def _prepared(sides: Sequence[Sums], aggregation: str) -> tuple[list[Array], list[Statistic]]:
    """Return the sums of each side by seed and group, (k, g, s), and the functions that compute scores from them."""
    if aggregation == POOLED:
        return [by_group(side.values, side.groups) for side in sides], [side.score_of for side in sides]
    by_event, defined = [side.score_of(side.values) for side in sides], events_of_mean(sides)
    sums = [np.stack([np.where(defined, values, 0), np.broadcast_to(defined, values.shape)], -1) for values in by_event]
    return [by_group(s, side.groups) for s, side in zip(sums, sides, strict=True)], [_mean] * len(sides)


def events_of_mean(sides: Sequence[Sums]) -> npt.NDArray[np.bool_]:
    """Return which events a mean over events includes, (e,): those that every run defines, the same on all sides."""
    return np.all([np.isfinite(side.score_of(side.values)).all(0) for side in sides], 0)


def by_group(values: Array, groups: npt.NDArray[np.str_]) -> Array:
    """Add up the sums (k, e, s) of the events of each group, (k, g, s)."""
    names, index = np.unique(groups, return_inverse=True)
    total = np.zeros((len(names), values.shape[0], values.shape[2]))
    np.add.at(total, index, values.swapaxes(0, 1))
    return total.swapaxes(0, 1)


def _mean(sums: Array) -> Array:
    return quotient(sums[..., 0], sums[..., 1])


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):  # an interval of very few events may be absurdly wide
        return float(np.exp(value)) if math.isfinite(value) else math.nan


def _expm1(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.expm1(value))
