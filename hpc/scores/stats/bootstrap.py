"""Confidence intervals from resampled groups of events and the spread of seeds, paired across arms."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from polarcast.hpc.scores.stats.tail import UpperTail, upper_tail

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
DRAWS = 5_000
LEVEL = 0.95
LEAST_P = 1e-6
"""Smallest p-value that is given; the fitted tail of the draws is not trusted beyond."""
_FEW = 6
"""Number of groups from which the p-value is bounded by that of a randomization test, 2^(1 − groups)."""
_STEP = 1e-4
_BATCH = 1 << 16
"""Sums at which a statistic is evaluated in one call: more are slower, because they leave the cache."""


@runtime_checkable
class Differentiable(Protocol):
    """A statistic that computes its own gradient, faster than by a difference along each sum."""

    def gradient(self, at: Array, used: npt.NDArray[np.int64]) -> Array:
        """Return the derivatives at sums (…, s) along the used ones, (…, len(used))."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; all but the value are NaN if too few groups of events define it.

    Attributes:
        value: Value on all events.
        low: Lower limit.
        high: Upper limit.
        error: Standard error of a normal distribution with this interval.
        p_value: Two-sided p-value for a true value of 0, below 1 − level exactly if the interval excludes 0.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    p_value: float = math.nan

    def within(self, least: float, greatest: float) -> "Interval":
        """Clip the interval to the possible values, which does not reduce its coverage."""
        return replace(
            self, low=float(np.clip(self.low, least, greatest)), high=float(np.clip(self.high, least, greatest))
        )

    def mapped(self, increasing: Callable[[float], float]) -> "Interval":
        """Return the value and limits on another scale; error and p-value stay those of the scale it was made on."""
        return replace(self, value=increasing(self.value), low=increasing(self.low), high=increasing(self.high))

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero; False without an interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Widths:
    """Half-width of the interval that is missed with a given probability.

    Attributes:
        error: Standard error over groups of events.
        pivots: Distribution of |draw − value| / SE(draw).
        groups: Number of groups.
        seed_variances: Variance of the value over the seeds of each arm; 0 of an arm with one seed.
        runs: Number of seeds of each arm.
    """

    error: float
    pivots: UpperTail
    groups: int
    seed_variances: tuple[float, ...]
    runs: tuple[int, ...]

    @cached_property
    def seed_error(self) -> float:
        """Standard error over the seeds of all arms; 0 without the spread of seeds."""
        return math.sqrt(sum(self.seed_variances))

    @cached_property
    def freedom(self) -> float:
        """Welch's degrees of freedom of the error over seeds."""
        several = [(v, runs - 1) for v, runs in zip(self.seed_variances, self.runs, strict=True) if runs > 1]
        return satterthwaite(*zip(*several, strict=True)) if sum(self.seed_variances) > 0 else math.inf

    @property
    def is_one_arm(self) -> bool:
        """Whether the error over seeds is of one arm only."""
        return sum(runs > 1 for runs in self.runs) == 1

    def at(self, probability: float) -> float:
        """Return the half-width: that of the draws without a spread of seeds, that of Student's t for normal errors."""
        events = self._events_error(probability)
        return self._quantile(probability, events) * math.hypot(events, self.seed_error)

    def probability(self, distance: float) -> float:
        """Return the probability whose half-width is a distance, at least `LEAST_P` or that of one of all signs."""
        from scipy.optimize import brentq

        if distance <= self.at(1.0):
            return 1.0
        least = max(least_p(self.groups), self.pivots.infinite * (1 + 1e-6))
        if distance >= self.at(least):
            return least
        return math.exp(brentq(lambda log: self.at(math.exp(log)) - distance, math.log(least), 0.0, xtol=1e-9))

    def _quantile(self, probability: float, events: float) -> float:
        """Return the quantile of Student's t for the sum of both variances.

        Two or three seeds of one arm may agree by chance; Satterthwaite's degrees of freedom are then far too many, and
        95% intervals cover 88 to 93%. The quantiles of both variances are weighted instead (Cochran & Cox 1957).
        """
        if not (self.is_one_arm and self.seed_error):
            return _student(probability, self._common_freedom)
        if math.isinf(events):
            return _student(probability, self.freedom)  # the half-width is infinite with any quantile
        quantiles = _student(probability, self.groups - 1), _student(probability, self.freedom)
        return float(np.average(quantiles, weights=[events**2, self.seed_error**2]))

    @cached_property
    def _common_freedom(self) -> float:
        """Degrees of freedom of the sum of both variances (Satterthwaite 1946)."""
        events, seeds = self._events_error(1 - LEVEL) ** 2, self.seed_error**2
        if not events + seeds > 0:
            return float(self.groups - 1)
        return satterthwaite((events, seeds), (self.groups - 1, self.freedom))

    def heaviness(self, probability: float) -> float:
        """Return how many times the quantile of the draws is that of Student's t; above 1 for heavy tails."""
        student = _student(probability, self.groups - 1)
        return float(self.pivots.quantile(probability)) / student if student else 1.0

    def _events_error(self, probability: float) -> float:
        """Return the error over groups, enlarged as the draws' tail is heavier than that of Student's t."""
        return self.error * self.heaviness(probability)


def least_p(groups: int) -> float:
    """Return the smallest p-value that a number of groups can give: that of a randomization test, 2^(1 − groups)."""
    return max(LEAST_P, 2.0 ** (1 - groups) if groups >= _FEW else 0.0)


def interval(
    arms: Sequence[Array], statistic: Statistic, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Compute a symmetric studentized bootstrap interval over groups of events, widened by Student's t over seeds.

    The half-width over groups is q · SE. SE is the jackknife standard error of the value. q is the `level` quantile of
    |draw − value| / SE(draw), with each draw's own standard error from the delta method.

    Seeds and events are crossed random effects. Seeds are too few to resample: draws of three seeds have two thirds of
    the variance. Runs of two arms have nothing in common but their events, so their seeds are not paired: the variance
    over seeds is the sum of the arms' jackknife variances. The variances over groups and seeds are added, and Student's
    t has the degrees of freedom of Welch and Satterthwaite, or, where one arm only has several seeds, the quantile of
    Cochran and Cox.

    Coverage is measured by `polarcast coverage`.

    Args:
        arms: Sums of each arm by seed and group, (k, g, s); the number of seeds may differ between arms. An arm with
            one seed adds no variance over seeds.
        statistic: Function of the arms' sums, concatenated along the last axis, (…, Σs), that returns values (…). It is
            smooth, and invariant to a common factor of all sums of an arm.
        draws: Number of resamples.
        level: Nominal coverage.
        seed: Seed of the draws, fixed so that results are reproducible.

    Returns:
        The value on all events and its interval. The interval is NaN for fewer than two groups, if the statistic is
        undefined without one of them or in more than half of the draws, or if more than 1 − level of the draws rest on
        a single group: of two or three groups, and where only five or fewer of many contribute.

    References:
        Hall (1988), studentized bootstrap; Cameron, Gelbach & Miller (2008), groups; Welch (1947); Cochran & Cox
        (1957), section 4.14.
    """
    value = float(statistic(_by_group(arms).sum(0)))
    widths = widths_of(arms, statistic, draws=draws, seed=seed)
    if widths is None:
        return Interval(value)
    half = widths.at(1 - level)
    if not math.isfinite(half):
        return Interval(value)
    normal = half / NormalDist().inv_cdf((1 + level) / 2)
    return Interval(value, value - half, value + half, normal, widths.probability(abs(value)))


def widths_of(arms: Sequence[Array], statistic: Statistic, *, draws: int = DRAWS, seed: int = 0) -> Widths | None:
    """Return what the width of the interval is made of; None where there is no interval. Arguments as of `interval`."""
    by_group = _by_group(arms)
    value = float(statistic(by_group.sum(0)))
    if len(by_group) < 2 or not np.isfinite(value):
        return None
    error = _jackknife(statistic, by_group)
    pivots = _pivots(statistic, by_group, value, error, draws, seed)
    variances = _over_seeds(arms, statistic)
    if pivots is None or not np.isfinite(error + sum(variances)):
        return None
    return Widths(error, upper_tail(pivots), len(by_group), variances, tuple(map(len, arms)))


def satterthwaite(variances: Sequence[Array | float], freedoms: Sequence[Array | float]) -> Any:
    """Return the degrees of freedom of a sum of variances, from those of each (Satterthwaite 1946)."""
    return sum(variances) ** 2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))


def _by_group(arms: Sequence[Array]) -> Array:
    """Return the sums of all arms by group, averaged over seeds, (g, Σs)."""
    return np.concatenate([arm.mean(0) for arm in arms], -1)


def _pivots(statistic: Statistic, by_group: Array, value: float, error: float, draws: int, seed: int) -> Array | None:
    """Return |draw − value| / SE(draw) of the draws that define it; None if fewer than half do.

    A draw that rests on a single group has no standard error. Its pivot is infinite: left out, those of two groups
    would be 0 throughout.
    """
    total, drawn_groups = by_group.sum(0), _draw(len(by_group), draws, seed)
    used = np.flatnonzero(gradient_of(statistic, total, np.arange(len(total))))
    resampled = drawn_groups @ by_group
    drawn = statistic(resampled)
    drawn_error = _standard_error(gradient_of(statistic, resampled, used), by_group[:, used], drawn_groups)
    without = np.where(np.isclose(drawn, value, rtol=1e-9, atol=1e-12), 0.0, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The gradient is exact to about 8 digits.
        pivots = np.where(drawn_error > 1e-6 * error, np.abs(drawn - value) / drawn_error, without)
    pivots = pivots[np.isfinite(drawn) & np.isfinite(drawn_error)]
    return pivots if len(pivots) >= draws // 2 else None


def _over_seeds(arms: Sequence[Array], statistic: Statistic) -> tuple[float, ...]:
    """Return the variance of the value over the seeds of each arm; 0 of an arm with one seed."""
    by_seed = [arm.sum(1) for arm in arms]
    means = [seeds.mean(0) for seeds in by_seed]
    variances = [0.0] * len(arms)
    for position, seeds in enumerate(by_seed):
        if len(seeds) > 1:
            before, after = means[:position], means[position + 1 :]
            error = _jackknife(lambda s, b=before, a=after: _beside(statistic, b, s, a), seeds)  # type: ignore[misc]
            variances[position] = error**2
    return tuple(variances)


def _beside(statistic: Statistic, before: Sequence[Array], sums: Array, after: Sequence[Array]) -> Array:
    """Evaluate the statistic at sums (…, s) of one arm beside fixed sums of the others."""
    fixed = [[np.broadcast_to(mean, (*sums.shape[:-1], len(mean))) for mean in side] for side in (before, after)]
    return statistic(np.concatenate([*fixed[0], sums, *fixed[1]], -1))


def _student(probability: float, freedom: float) -> float:
    """Return the value that |t| of Student's distribution exceeds with a probability.

    `scipy.stats.t.isf` gives the same value, and takes hundreds of times as long: it checks arrays that aren't there.
    """
    from scipy.special import stdtrit

    return float(abs(stdtrit(freedom, probability / 2)))


def _jackknife(statistic: Statistic, sums: Array) -> float:
    """Compute the jackknife standard error over the rows (groups or seeds) of sums (n, s).

    It is biased upwards (Efron & Stein 1981), and NaN if the statistic is undefined without one of the rows.
    """
    n = len(sums)
    # The mean of the others, because sums of seeds stand beside sums of arms with another number of seeds.
    without = statistic((sums.sum(0) - sums) / (n - 1))
    return float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))


@lru_cache(maxsize=4)
def _draw(groups: int, draws: int, seed: int) -> Array:
    """Draw the multiplicity of each group in each resample, (b, g); cached for all scores of a table."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(float)


def _standard_error(gradient: Array, sums: Array, drawn: Array) -> Array:
    """Compute the standard error of each draw, (b,), by the delta method.

    Args:
        gradient: Gradient of the statistic at each draw's sums, (b, s).
        sums: Sums of each group, (g, s).
        drawn: Multiplicity of each group in each draw, (b, g).
    """
    g = len(sums)
    influence = gradient @ sums.T
    mean = (drawn * influence).sum(1, keepdims=True) / g
    return np.sqrt((drawn * (influence - mean) ** 2).sum(1) * g / (g - 1))


def gradient_of(statistic: Statistic, at: Array, used: npt.NDArray[np.int64]) -> Array:
    """Compute central differences of the statistic at sums (…, s) along the used ones, (…, len(used)).

    A `Differentiable` statistic is asked for its gradient instead.
    """
    if isinstance(statistic, Differentiable):
        return statistic.gradient(at, used)
    if not len(used):
        return np.zeros((*at.shape[:-1], 0))
    size = np.maximum(np.abs(at), 1e-8 * np.abs(at).max(-1, keepdims=True))[..., used] * _STEP
    at_once = max(1, _BATCH // max(at.size, 1))
    parts = [slice(start, start + at_once) for start in range(0, len(used), at_once)]
    return np.concatenate([_central_differences(statistic, at, used[part], size[..., part]) for part in parts], -1)


def _central_differences(statistic: Statistic, at: Array, along: npt.NDArray[np.int64], size: Array) -> Array:
    """Evaluate the statistic on both sides of sums (…, s), a size (…, len(along)) away along some of them."""
    change = np.zeros((len(along), *at.shape))
    change[np.arange(len(along)), ..., along] = np.moveaxis(size, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.moveaxis(statistic(at + change) - statistic(at - change), 0, -1) / (2 * size)


def heaviest_share(by_group: Array, statistic: Statistic) -> float:
    """Return the largest share that one group has of a sum that the statistic depends on noticeably.

    Args:
        by_group: Sums of each group, (g, s).
        statistic: Function of sums (…, s).

    Returns:
        Share in [0, 1]; NaN if the statistic is undefined. Sums whose relative change moves the statistic by less than
        a tenth of what the most influential one does are left out.
    """
    total = by_group.sum(0)
    effect = np.abs(gradient_of(statistic, total, np.arange(len(total))) * total)
    if not np.isfinite(effect).all() or not effect.any():
        return math.nan
    used = effect >= 0.1 * effect.max()
    return float((np.abs(by_group[:, used]).max(0) / np.abs(by_group[:, used]).sum(0)).max())
