"""Significance of differences: multiple testing, detectable effects, and tests other than the bootstrap."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_NORMAL = NormalDist()


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


def hering_genton(difference: Array) -> tuple[float, float]:
    """Compute the Diebold–Mariano test of a series of loss differences with the Hering–Genton variance.

    The variance of the mean follows from an exponential model fitted to the autocovariances, so it is never negative.

    Args:
        difference: Loss differences in order of time, (t,); NaN values are dropped.

    Returns:
        Statistic and two-sided p-value; both NaN for fewer than four values or for equal values.

    References:
        Diebold & Mariano (1995); Hering & Genton (2011).
    """
    from scipy.optimize import least_squares

    d = difference[np.isfinite(difference)]
    n = len(d)
    if n < 4 or np.ptp(d) == 0:
        return math.nan, math.nan
    scale = float(d.std())
    centered = (d - d.mean()) / scale
    lags = np.arange(max((n - 1) // 2, 1))
    sample = np.array([centered[k:] @ centered[: n - k] for k in lags]) / n
    model = least_squares(lambda p: p[0] ** 2 * np.exp(-3 * lags / p[1]) - sample, [1, 1], bounds=(1e-12, np.inf)).x
    covariance = model[0] ** 2 * np.exp(-3 * np.arange(n) / model[1])
    density = covariance[0] + 2 * covariance[1:].sum()
    statistic = float(d.mean()) / scale / math.sqrt(density / n)
    return statistic, 2 * (1 - _NORMAL.cdf(abs(statistic)))
