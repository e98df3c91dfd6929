"""Significance of differences: multiple testing, detectable effects, and tests other than the bootstrap."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from polarcast.hpc.scores.stats.bootstrap import DRAWS

Array = npt.NDArray[np.float64]
_NORMAL = NormalDist()
_EXACT_GROUPS = 12


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple testing by Holm's step-down method.

    Rejecting all adjusted p-values at or below a level bounds the family-wise error rate by that level.

    Args:
        p_values: P-values of a family of tests; NaN entries are not counted as tests.

    Returns:
        Adjusted p-values in the same order; NaN where the input is NaN.

    References:
        Holm (1979).
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = highest
    return adjusted


def minimum_detectable_effect(standard_error: float, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest true difference that a two-sided test detects.

    MDE = SE · (z((1 + level) / 2) + z(power)), with the standard normal quantile z.

    Args:
        standard_error: Standard error of the difference.
        level: Confidence level of the test.
        power: Probability of detection.

    Returns:
        Effect in the unit of the standard error.

    References:
        Bloom (1995).
    """
    return standard_error * (_NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power))


def probability_of_improvement(difference: Array) -> float:
    """Compute the share of events with an improvement, where a tie counts half.

    Args:
        difference: Improvement in each event, (e,); NaN where undefined.

    Returns:
        Share in [0, 1]; NaN without a defined event.

    References:
        Agarwal et al. (2021).
    """
    known = difference[np.isfinite(difference)]
    return float(np.mean((known > 0) + 0.5 * (known == 0))) if len(known) else math.nan


def sign_flip(
    first: Array, second: Array, effect: Callable[[Array, Array], Array], draws: int = DRAWS, seed: int = 0
) -> float:
    """Compute the two-sided p-value of the randomization test that swaps both arms in random groups of events.

    If both arms are equally good, their sums are exchangeable within each independent group. The statistic is that of
    the table. All swaps are made for up to 12 groups, random ones otherwise.

    Args:
        first: Sums of one arm by group, (g, s).
        second: Sums of the other arm, (g, s).
        effect: Function of the totals of both arms, (…, s) each, that returns the effect (…), 0 for none.
        draws: Number of random swaps.
        seed: Seed of the swaps.

    Returns:
        p-value; NaN for fewer than two groups, or if the effect is undefined.

    References:
        Fisher (1935), the test; Phipson & Smyth (2010), its p-value from random draws.
    """
    groups = len(first)
    found = float(effect(first.sum(0), second.sum(0)))
    if groups < 2 or not math.isfinite(found):
        return math.nan
    signs = _signs(groups, draws, seed)
    middle, half = (first + second).sum(0) / 2, (second - first) / 2
    moved = signs @ half
    effects = np.abs(effect(middle - moved, middle + moved))
    reached = int((~(effects < abs(found) * (1 - 1e-9))).sum())  # an undefined effect counts as reached
    is_exact = groups <= _EXACT_GROUPS
    return reached / len(signs) if is_exact else (1 + reached) / (1 + len(signs))


@lru_cache(maxsize=4)
def _signs(groups: int, draws: int, seed: int) -> Array:
    """Return all signs of up to `_EXACT_GROUPS` groups, or random ones, (b, g)."""
    if groups <= _EXACT_GROUPS:
        bits = np.arange(2**groups)[:, None] >> np.arange(groups) & 1
        return np.asarray(1.0 - 2.0 * bits, np.float64)
    return np.asarray(np.random.default_rng(seed).choice([-1.0, 1.0], (draws, groups)), np.float64)
