"""Confidence intervals from resampled events and the spread of seeds, paired across arms."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
DRAWS = 5_000
LEVEL = 0.95
_STEP = 1e-4


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; all but the value are NaN if too few events define it.

    Attributes:
        value: Value on all events.
        low: Lower limit.
        high: Upper limit.
        error: Standard error of a normal distribution with this interval.
        p_value: Two-sided p-value for a true value of 0, below 1 − level exactly if the interval excludes 0.
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    error: float = np.nan
    p_value: float = np.nan

    def within(self, least: float, greatest: float) -> "Interval":
        """Clip the interval to the possible values, which does not reduce its coverage."""
        return replace(
            self, low=float(np.clip(self.low, least, greatest)), high=float(np.clip(self.high, least, greatest))
        )


def interval(sums: Array, statistic: Statistic, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0) -> Interval:
    """Compute a symmetric studentized bootstrap interval over events, widened by Student's t over seeds.

    The half-width over events is q · SE. SE is the jackknife standard error of the value. q is the `level` quantile of
    |draw − value| / SE(draw), with each draw's own standard error from the delta method.

    Scores are ratios of sums over few, very unequal events. For differences of such scores, nominal 95% percentile
    and BCa intervals cover 84–92%; this interval covers 95–96% (`tests/hpc/scores/stats/test_coverage.py`).

    Seeds are too few to resample: draws of three seeds have two thirds of the variance. The half-width over seeds is
    the jackknife standard error over seeds times the quantile of Student's t with k − 1 degrees of freedom. Both
    half-widths are added in quadrature.

    Concatenate arms to compare along the last axis, so that each draw resamples them together.

    Args:
        sums: Sums of each seed and event, (k, e, s).
        statistic: Function of sums (…, s) that returns values (…); smooth and invariant to a common factor of all sums.
        draws: Number of resamples.
        level: Nominal coverage.
        seed: Seed of the draws, fixed so that results are reproducible.

    Returns:
        The value on all events and its interval. The interval is NaN for fewer than two events, or if the statistic is
        undefined in more than half of the draws.

    References:
        Hall (1988), studentized bootstrap; Zou & Donner (2008), combination of intervals.
    """
    k, e, _ = sums.shape
    total = sums.sum((0, 1))
    value = float(statistic(total))
    if e < 2 or not np.isfinite(value):
        return Interval(value)
    used = np.flatnonzero(_gradient(statistic, total, np.arange(len(total))))
    of_events, events = sums.sum(0), _draw(e, draws, seed)
    error, error_of_seeds = _jackknife(statistic, of_events), _jackknife(statistic, sums.sum(1)) if k > 1 else 0.0
    resampled = events @ of_events
    drawn = statistic(resampled)
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = np.abs(drawn - value) / _standard_error(
            _gradient(statistic, resampled, used), of_events[:, used], events
        )
    pivots = np.where((drawn == value) & ~np.isfinite(pivots), 0.0, pivots)
    pivots = np.sort(pivots[np.isfinite(pivots)])
    if len(pivots) < draws // 2 or not np.isfinite(error + error_of_seeds):
        return Interval(value)
    # Half-width of the interval whose level equals the rank of each pivot, from which the p-value follows.
    shares = np.arange(1, len(pivots) + 1) / (len(pivots) + 1)
    widths = np.hypot(pivots * error, _student_quantile(shares, k) * error_of_seeds)
    half = float(np.hypot(np.quantile(pivots, level) * error, _student_quantile(np.array(level), k) * error_of_seeds))
    p_value = (1 + int((widths >= abs(value)).sum())) / (1 + len(pivots))
    return Interval(value, value - half, value + half, half / NormalDist().inv_cdf((1 + level) / 2), p_value)


def _student_quantile(level: Array, seeds: int) -> Array:
    """Return the two-sided quantile of Student's t for a number of seeds; 0 for a single seed."""
    from scipy.stats import t

    return t.ppf((1 + level) / 2, seeds - 1) if seeds > 1 else np.zeros_like(level)


def _jackknife(statistic: Statistic, sums: Array) -> float:
    """Compute the jackknife standard error over the rows (events or seeds) of sums (e, s).

    It is biased upwards (Efron & Stein 1981), and NaN if the statistic is undefined without one of the rows.
    """
    e = len(sums)
    without = statistic(sums.sum(0) - sums)
    return float(np.sqrt((e - 1) / e * np.square(without - without.mean()).sum()))


@lru_cache(maxsize=4)
def _draw(events: int, draws: int, seed: int) -> Array:
    """Draw the multiplicity of each event in each resample, (b, e); cached for all scores of a table."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(events, np.full(events, 1 / events), size=draws).astype(float)


def _standard_error(gradient: Array, sums: Array, events: Array) -> Array:
    """Compute the standard error of each draw, (b,), by the delta method.

    Args:
        gradient: Gradient of the statistic at each draw's sums, (b, s).
        sums: Sums of each event, (e, s).
        events: Multiplicity of each event in each draw, (b, e).
    """
    e = len(sums)
    influence = gradient @ sums.T
    mean = (events * influence).sum(1, keepdims=True) / e
    return np.sqrt((events * (influence - mean) ** 2).sum(1) * e / (e - 1))


def _gradient(statistic: Statistic, at: Array, used: npt.NDArray[np.int64]) -> Array:
    """Compute central differences of the statistic along the used sums, (…, len(used))."""
    size = np.maximum(np.abs(at), 1e-8 * np.abs(at).max(-1, keepdims=True))[..., used] * _STEP
    columns = []
    for j, column in enumerate(used):
        change = np.zeros_like(at)
        change[..., column] = size[..., j]
        with np.errstate(divide="ignore", invalid="ignore"):
            columns.append((statistic(at + change) - statistic(at - change)) / (2 * size[..., j]))
    return np.stack(columns, -1) if columns else np.zeros((*at.shape[:-1], 0))
