"""Power of a paired comparison, and the groups of events and seeds that it needs, from the spread of scored runs.

Groups of events and the seeds of each arm are crossed random effects, as in `bootstrap.interval`. The variance of the
comparison is split into that of the groups, of the runs of each arm, and of group and run together: a net errs in other
events with every seed. From these follow the interval that other numbers of groups and seeds would have, and the
probability that it excludes zero.

The width of an interval is itself random, and of two or three seeds very much so: with two seeds and a spread that
seeds rule, an effect of Bloom's (1995) size is found 61% of the time, not 80%. The probability is therefore averaged
over the distribution of the estimated variances, with the degrees of freedom that each of them would give.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.stats.bootstrap import DRAWS, LEVEL, Statistic, gradient_of, satterthwaite, widths_of

POWER = 0.8
FEWEST, MOST = 10, 10**7
"""Numbers of groups that are searched; what more than the last one would need is given as infinite."""
RANGE = 0.8
"""Probability of the range of a number of groups."""
_SAMPLES, _POINTS = 100, 128
"""Variance components drawn for the range, and points at which the power is averaged."""
_COARSE, _FINE = 24, 9
"""Numbers of groups that are tried between `FEWEST` and `MOST`, and halvings of the step that contains the least."""
_MOST_TAIL = 1.0
"""Largest share by which few groups may widen an interval of more groups than Student's t does."""
_MOST_KURTOSIS = 0.25
"""Largest excess kurtosis of a sample, as a share of its number of groups."""


@dataclass(frozen=True)
class Spread:
    """Variance components of a comparison, in the square of its unit; that of a ratio is the logarithm.

    Components may be arrays, (n, 1), of n equally likely ones.

    Attributes:
        groups: Number of groups of events that they were estimated from.
        runs: Number of runs of each arm that they were estimated from; 1 of an arm without a spread over seeds.
        of_groups: Variance between groups of events, for runs averaged over all seeds.
        of_seeds: Variance between the runs of each arm, on all events.
        of_both: Variance of one group and run of each arm that neither explains.
        heaviness: Quantile of the bootstrap over that of Student's t; above 1 for heavy tails.
        kurtosis: Excess kurtosis of the groups, at least 0.
    """

    groups: int
    runs: tuple[int, ...]
    of_groups: Any
    of_seeds: tuple[Any, ...]
    of_both: tuple[Any, ...]
    heaviness: float = 1.0
    kurtosis: float = 0.0

    @property
    def has_seeds(self) -> bool:
        """Whether the comparison varies between training runs."""
        return max(self.runs) > 1

    @property
    def share_of_seeds(self) -> float:
        """Share of the variance, for the runs and groups that were scored, that more events would not reduce."""
        fixed = sum(of / runs for of, runs in zip(self.of_seeds, self.runs, strict=True))
        return float(fixed / self.variance(self.groups, self.runs))

    def events_variance(self, groups: Any, runs: Sequence[int]) -> Any:
        """Return the expected variance over groups, as an interval estimates it."""
        return (self.of_groups + sum(of / k for of, k in zip(self.of_both, runs, strict=True))) / groups

    def seed_variances(self, groups: Any, runs: Sequence[int]) -> list[Any]:
        """Return the expected variance over the seeds of each arm, as an interval estimates it."""
        return [(s + b / groups) / k for s, b, k in zip(self.of_seeds, self.of_both, runs, strict=True)]

    def variance(self, groups: Any, runs: Sequence[int]) -> Any:
        """Return the variance of the comparison. An interval counts that of group and run together twice."""
        twice = sum(b / k for b, k in zip(self.of_both, runs, strict=True)) / groups
        return self.events_variance(groups, runs) + sum(self.seed_variances(groups, runs)) - twice

    def runs_of(self, seeds: int) -> tuple[int, ...]:
        """Return the runs of each arm with a number of seeds: one of an arm that does not depend on the seed."""
        return tuple(seeds if runs > 1 else 1 for runs in self.runs)

    def events_freedom(self, groups: Any) -> Any:
        """Return the degrees of freedom of the variance over groups: fewer for heavy tails (Box 1953).

        The kurtosis that few groups can show is bounded by their number.
        """
        return 2 / (2 / (groups - 1) + np.minimum(self.kurtosis / groups, _MOST_KURTOSIS))


def spread_of(
    arms: Sequence[Array], statistic: Statistic, *, level: float = LEVEL, draws: int = DRAWS
) -> Spread | None:
    """Estimate the variance components of a comparison.

    At the numbers of groups and runs given, they return the variances that `bootstrap.interval` estimates.

    Args:
        arms: Sums of each arm by seed and group, (k, g, s).
        statistic: Function of the arms' sums, concatenated along the last axis.
        level: Level of the intervals that are planned.
        draws: Number of resamples.

    Returns:
        The components; None where there is no interval, or nothing varies.
    """
    widths = widths_of(arms, statistic, draws=draws)
    if widths is None or not math.isfinite(widths.heaviness(1 - level)) or not widths.error + widths.seed_error > 0:
        return None
    groups, runs = widths.groups, widths.runs
    influences = _influences(arms, statistic)
    of_events = widths.error**2 * groups
    of_runs = [variance * k for variance, k in zip(widths.seed_variances, runs, strict=True)]
    both = [min(_both(h), of * groups) for h, of in zip(influences, of_runs, strict=True)]
    # Linear influences and the jackknife differ slightly, and no component is below 0.
    within = sum(of / k for of, k in zip(both, runs, strict=True))
    both = [of * min(1.0, of_events / within) if within else 0.0 for of in both]
    within = sum(of / k for of, k in zip(both, runs, strict=True))
    of_seeds = tuple(max(of - b / groups, 0.0) for of, b in zip(of_runs, both, strict=True))
    together = sum(h.mean(0) for h in influences)
    return Spread(
        groups, runs, max(of_events - within, 0.0), of_seeds, tuple(both), widths.heaviness(1 - level),
        _excess_kurtosis(np.asarray(together)),
    )  # fmt: skip


def power_at(spread: Spread, effect: float, groups: Any, seeds: int = 1, *, level: float = LEVEL) -> Any:
    """Return the probability that the interval excludes zero.

    Args:
        spread: Variance components.
        effect: True effect in their unit: of a ratio its logarithm.
        groups: Number of groups of events; an array (n, 1) for n components.
        seeds: Number of seeds of each arm that depends on them.
        level: Level of the interval.

    Returns:
        Probability, or (n,) of them. 0 where one seed leaves the spread of seeds unknown, so that there is no test.
    """
    if spread.has_seeds and seeds < 2:
        return np.zeros(np.shape(groups)[:1])[()]
    return _found(effect, _half_widths(spread, groups, seeds, level), _error(spread, groups, seeds))


def detectable_effect(
    spread: Spread, groups: int, seeds: int = 1, *, power: float = POWER, level: float = LEVEL
) -> float:
    """Return the smallest true effect that is found with a given power; infinite if no test is possible."""
    from scipy.optimize import brentq

    if spread.has_seeds and seeds < 2:
        return math.inf
    halves, error = _half_widths(spread, groups, seeds, level), _error(spread, groups, seeds)
    highest = float(halves.max() + 10 * error)
    return float(brentq(lambda effect: _found(effect, halves, error) - power, 0.0, highest, xtol=1e-6 * highest))


@dataclass(frozen=True)
class Needed:
    """Groups of events that an effect needs.

    Attributes:
        groups: Number of groups, at least `FEWEST`; infinite if no number suffices.
        low: Lower end of the range that the uncertainty of the variance components leaves.
        high: Its upper end.
    """

    groups: float
    low: float
    high: float


def groups_needed(
    spread: Spread, effect: float, seeds: int = 1, *, power: float = POWER, level: float = LEVEL
) -> Needed:
    """Return the number of groups with which an effect is found with a given power.

    The range holds the middle `RANGE` of the numbers that variance components give which are drawn from the
    distributions that the estimated ones leave (chi-square, by the degrees of freedom of each).
    """
    found = float(_search(spread, effect, seeds, power, level)[0])
    drawn = _search(_drawn(spread), effect, seeds, power, level)
    low, high = np.quantile(drawn, [(1 - RANGE) / 2, (1 + RANGE) / 2], method="inverted_cdf")
    return Needed(found, min(float(low), found), max(float(high), found))


def _search(spread: Spread, effect: float, seeds: int, power: float, level: float) -> Array:
    """Return the least number of groups of each of the variance components, (n,); infinite beyond `MOST`.

    The power need not increase with the groups: where two or three seeds are all that is left of the variance, the
    interval has their few degrees of freedom.
    """

    def suffices(log_groups: Array) -> Any:
        return power_at(spread, effect, np.exp(log_groups)[:, None], seeds, level=level) >= power

    count = max(np.size(spread.of_groups), 1)
    tried = np.linspace(math.log(FEWEST), math.log(MOST), _COARSE)
    high, is_known = np.full(count, math.inf), np.zeros(count, bool)
    for log_groups in tried:
        is_new = suffices(np.full(count, log_groups)) & ~is_known
        high[is_new], is_known = log_groups, is_known | is_new
        if is_known.all():
            break
    found = np.where(is_known, high, tried[-1])
    low = np.maximum(found - (tried[1] - tried[0]), tried[0])
    for _ in range(_FINE):
        middle = (low + found) / 2
        enough = suffices(middle)
        low, found = np.where(enough, low, middle), np.where(enough, middle, found)
    needed = np.where(high == tried[0], FEWEST, np.ceil(np.exp(found) - 1e-6))
    return np.where(is_known, needed, math.inf)


def _found(effect: float, halves: Array, error: Any) -> Any:
    """Return the probability that a normal value with a standard error is farther from 0 than the half-width."""
    from scipy.special import ndtr

    return (ndtr((effect - halves) / error) + ndtr((-effect - halves) / error)).mean(-1)


def _error(spread: Spread, groups: Any, seeds: int) -> Any:
    return np.sqrt(spread.variance(groups, spread.runs_of(seeds)))


def _half_widths(spread: Spread, groups: Any, seeds: int, level: float) -> Array:
    """Return half-widths at points of equal weight of the distribution of the estimated variances, (…, `_POINTS`).

    The bootstrap's quantile approaches that of Student's t with 1 / groups (Hall 1988).
    """
    runs = spread.runs_of(seeds)
    normal, of_runs = _points(runs)
    tail = _tail(spread, groups)
    events = spread.events_variance(groups, runs) * tail**2 * _chi_square(normal, spread.events_freedom(groups))
    by_arm = [v * c for v, c in zip(spread.seed_variances(groups, runs), of_runs, strict=True)]
    several = [(v, np.full(1, k - 1.0)) for v, k in zip(by_arm, runs, strict=True) if k > 1]
    if not several:
        return np.asarray(_student(1 - level, groups - 1) * np.sqrt(events))
    seeds_variance = sum(v for v, _ in several)
    if len(several) == 1:  # Cochran & Cox, as the interval
        quantiles = _student(1 - level, groups - 1), _student(1 - level, several[0][1])
        quantile = (quantiles[0] * events + quantiles[1] * seeds_variance) / (events + seeds_variance)
    else:
        variances, freedoms = zip((events, groups - 1), *several, strict=True)
        quantile = _student(1 - level, satterthwaite(variances, freedoms))
    return np.asarray(quantile * np.sqrt(events + seeds_variance))


def _tail(spread: Spread, groups: Any) -> Any:
    """Return the bootstrap's quantile over that of Student's t for another number of groups."""
    # For fewer groups than were scored, noise of the draws would be multiplied, too.
    scale = np.asarray(spread.groups / groups)
    more = np.where(scale > 1, max(spread.heaviness - 1, 0), spread.heaviness - 1)
    return 1 + np.minimum(more * scale, np.maximum(more, _MOST_TAIL))


@lru_cache(maxsize=64)
def _points(runs: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """Return normal deviates for the variance over groups, and the ratio of estimate to variance of each arm's seeds.

    They are a low-discrepancy sample, so that few points suffice and the power is a smooth function.
    """
    from scipy.stats import chi2, norm, qmc

    uniform = qmc.Sobol(1 + len(runs), seed=0).random(_POINTS)
    ratios = [
        chi2.ppf(u, k - 1) / (k - 1) if k > 1 else np.zeros(_POINTS) for u, k in zip(uniform.T[1:], runs, strict=True)
    ]
    return np.asarray(norm.ppf(uniform[:, 0])), ratios


def _chi_square(normal: Array, freedom: Any) -> Array:
    """Return chi-square over its degrees of freedom at normal deviates (Wilson & Hilferty 1931)."""
    share = 2 / (9 * freedom)
    return np.asarray(np.maximum(1 - share + normal * np.sqrt(share), 1e-3) ** 3)


def _student(probability: float, freedom: Any) -> Array:
    """Return the value that |t| exceeds with a probability, from a table that is exact to about five digits."""
    log_freedom, log_quantile = _student_table(probability)
    return np.exp(np.interp(np.log(freedom), log_freedom, log_quantile))


@lru_cache(maxsize=8)
def _student_table(probability: float) -> tuple[Array, Array]:
    from scipy.stats import t

    log_freedom = np.linspace(math.log(0.5), math.log(1e7), 1500)
    return log_freedom, np.log(t.isf(probability / 2, np.exp(log_freedom)))


def _drawn(spread: Spread) -> Spread:
    """Draw variance components (n, 1) that the estimated ones leave, by chi-square."""
    rng = np.random.default_rng(0)

    def scaled(estimate: Any, freedom: float) -> Array:
        return np.asarray(estimate * freedom / rng.chisquare(freedom, (_SAMPLES, 1)))

    within = sum(of / k for of, k in zip(spread.of_both, spread.runs, strict=True))
    of_events = scaled(spread.of_groups + within, float(spread.events_freedom(spread.groups)))
    of_seeds = []
    for seeds, both, k in zip(spread.of_seeds, spread.of_both, spread.runs, strict=True):
        total = scaled(seeds + both / spread.groups, k - 1) if k > 1 else np.zeros((_SAMPLES, 1))
        of_seeds.append(np.maximum(total - both / spread.groups, 0))
    return replace(spread, of_groups=np.maximum(of_events - within, 0), of_seeds=tuple(of_seeds))


def _influences(arms: Sequence[Array], statistic: Statistic) -> list[Array]:
    """Return the influence of each run and group of each arm on the statistic, (k, g), whose mean is about 0."""
    total = np.concatenate([arm.mean(0).sum(0) for arm in arms])
    gradient = gradient_of(statistic, total, np.arange(len(total)))
    gradients = np.split(gradient, np.cumsum([arm.shape[-1] for arm in arms])[:-1])
    return [arm.shape[1] * (arm @ slope) for arm, slope in zip(arms, gradients, strict=True)]


def _both(influence: Array) -> float:
    """Return the variance of a group and run of (k, g) that neither explains (two-way layout without replicates)."""
    k, g = influence.shape
    if k < 2:
        return 0.0
    rest = influence - influence.mean(0) - influence.mean(1, keepdims=True) + influence.mean()
    return float(np.square(rest).sum() / ((k - 1) * (g - 1)))


def _excess_kurtosis(values: Array) -> float:
    centered = values - values.mean()
    variance = np.mean(centered**2)
    return max(float(np.mean(centered**4) / variance**2 - 3), 0.0) if variance > 0 else 0.0
