"""Beyond one interval: many differences in one table, what they could have shown, and checks by other means."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_NORMAL = NormalDist()


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for a family of tests, in their order (Holm 1979): the chance that any of those at or below a
    level is a false one is at most that level. NaN is no test, and stays.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = highest
    return adjusted


def minimum_detectable_effect(standard_error: float, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided test at this level finds with this power (Bloom 1995)."""
    return standard_error * (_NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power))


def probability_of_improvement(difference: Array) -> float:
    """Share of events in which the one is better, a tie counting half (Agarwal et al. 2021); NaN without an event.

    Args:
        difference: (e,) how much better it is in each; NaN where that is undefined.
    """
    known = difference[np.isfinite(difference)]
    return float(np.mean((known > 0) + 0.5 * (known == 0))) if len(known) else math.nan


def hering_genton(difference: Array) -> tuple[float, float]:
    """Diebold–Mariano statistic and two-sided p-value of a series of differences of loss, (t,) in order of time.

    The variance of the mean is that of an exponential model fitted to the autocovariances (Hering & Genton 2011), which
    can't become negative. NaN for fewer than four values, or where all are the same.
    """
    from scipy.optimize import least_squares

    d = difference[np.isfinite(difference)]
    n = len(d)
    if n < 4 or np.ptp(d) == 0:
        return math.nan, math.nan
    scale = float(d.std())
    centred = (d - d.mean()) / scale
    lags = np.arange(max((n - 1) // 2, 1))
    sample = np.array([centred[k:] @ centred[: n - k] for k in lags]) / n
    model = least_squares(lambda p: p[0] ** 2 * np.exp(-3 * lags / p[1]) - sample, [1, 1], bounds=(1e-12, np.inf)).x
    covariance = model[0] ** 2 * np.exp(-3 * np.arange(n) / model[1])
    density = covariance[0] + 2 * covariance[1:].sum()
    statistic = float(d.mean()) / scale / math.sqrt(density / n)
    return statistic, 2 * (1 - _NORMAL.cdf(abs(statistic)))
