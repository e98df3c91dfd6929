"""Continuous scores from moments of forecast, observation and error."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.hpc.scores.arrays import as_arrays, on_cpu
from polarcast.hpc.scores.classes import classify
from polarcast.hpc.scores.ratios import Array, quotient

_CONSTANT = 1e-10
"""Variance as a share of the mean square up to which values count as constant.

A standard deviation of 1e-5 of the root mean square: sums in float64 over many fields cannot tell less from rounding.
"""
MOMENTS = ("pixels", "sum_obs", "sum_fc", "sum_abs_error", "sum_sq_error", "sum_sq_obs", "sum_sq_fc", "sum_obs_fc")


def moments(forecast: Tensor, observed: Tensor, classes: Sequence[float] = (-math.inf,)) -> Tensor:
    """Accumulate the moments of each field by class of the observed value.

    Pixels that are NaN in either field are excluded.

    Args:
        forecast: Forecast fields, (n, y, x).
        observed: Observed fields in the same units, (n, y, x).
        classes: Lower limits of the classes, ascending; the first class has no lower limit.

    Returns:
        (n, class, MOMENTS) float64.
    """
    if on_cpu(forecast, observed):
        return _by_kernel(forecast, observed, classes)
    valid = ~(forecast.isnan() | observed.isnan())
    f, o = (torch.where(valid, field, 0).double().flatten(1) for field in (forecast, observed))
    edges = torch.tensor(classes[1:], dtype=o.dtype, device=o.device)
    of_class = torch.bucketize(o, edges, right=True).where(valid.flatten(1), -1)
    error = f - o
    terms = torch.stack([torch.ones_like(o), o, f, error.abs(), error.square(), o.square(), f.square(), o * f], 1)
    member = torch.stack([of_class == c for c in range(len(classes))], -1).double()
    return (terms @ member).mT


def _by_kernel(forecast: Tensor, observed: Tensor, classes: Sequence[float]) -> Tensor:
    from polarcast.hpc.scores.pixel_kernels import moment_sums

    sums = torch.zeros(len(forecast), len(classes), len(MOMENTS), dtype=torch.float64)
    of_class = classify(observed, classes[1:])
    moment_sums(*as_arrays(forecast, observed), of_class.numpy(), sums.numpy())
    return sums


def is_constant(n: Array, total: Array, squares: Array) -> npt.NDArray[np.bool_]:
    """Return whether n values with these sums of values and squares are constant, up to rounding of the sums."""
    return _raw_variance(n, total, squares) <= _CONSTANT * quotient(squares, n)


def _raw_variance(n: Array, total: Array, squares: Array) -> Array:
    return quotient(squares, n) - quotient(total, n) ** 2


def _variance(n: Array, total: Array, squares: Array) -> Array:
    """Return the variance, exactly 0 of constant values; NaN without values."""
    return np.where(is_constant(n, total, squares), 0.0, _raw_variance(n, total, squares))


def _positive(total: Array) -> Array:
    """Return a sum that is divided by, NaN where it is not positive."""
    return np.where(np.asarray(total) > 0, total, np.nan)


def _cc(n: Array, o: Array, f: Array, ae: Array, se: Array, oo: Array, ff: Array, of: Array) -> Array:
    covariance = quotient(of, n) - quotient(o, n) * quotient(f, n)
    return quotient(covariance, np.sqrt(np.clip(_variance(n, o, oo) * _variance(n, f, ff), 0, None)))


def _explained(n: Array, o: Array, f: Array, ae: Array, se: Array, oo: Array, ff: Array, of: Array) -> Array:
    return 1 - quotient(np.clip(_raw_variance(n, f - o, se), 0, None), _variance(n, o, oo))


def _kge(n: Array, o: Array, f: Array, ae: Array, se: Array, oo: Array, ff: Array, of: Array) -> Array:
    correlation = _cc(n, o, f, ae, se, oo, ff, of)
    variability = np.sqrt(quotient(_variance(n, f, ff), _variance(n, o, oo)))
    return 1 - np.sqrt((correlation - 1) ** 2 + (variability - 1) ** 2 + (f / _positive(o) - 1) ** 2)


CONTINUOUS: dict[str, Callable[..., Array]] = {
    "mse": lambda n, o, f, ae, se, oo, ff, of: quotient(se, n),
    "rmse": lambda n, o, f, ae, se, oo, ff, of: np.sqrt(quotient(se, n)),
    "mae": lambda n, o, f, ae, se, oo, ff, of: quotient(ae, n),
    "ne": lambda n, o, f, ae, se, oo, ff, of: ae / _positive(o),  # normalized error Σ|f − o| / Σo, the paper's RBIAS
    "nb": lambda n, o, f, ae, se, oo, ff, of: (f - o) / _positive(o),  # normalized bias Σ(f − o) / Σo
    "cc": _cc,  # Pearson correlation
    "explained_variance": _explained,  # 1 − Var(f − o) / Var(o)
    # 1 − MSE / Var(o): skill against the observed mean, Nash–Sutcliffe efficiency (Murphy 1988; Nash & Sutcliffe 1970)
    "msess": lambda n, o, f, ae, se, oo, ff, of: 1 - quotient(quotient(se, n), _variance(n, o, oo)),
    "kge": _kge,  # Kling–Gupta efficiency 1 − √((r − 1)² + (σf/σo − 1)² + (μf/μo − 1)²) (Gupta et al. 2009)
}
"""Continuous scores by name, as functions of MOMENTS.

NaN where undefined: ratios to the observed sum if it is not positive, and scores relative to the variance of constant
values (`is_constant`).
"""


def continuous(name: str, sums: Array) -> Array:
    """Compute a continuous score from moments.

    Args:
        name: Key of CONTINUOUS.
        sums: Sums of `moments`, (…, MOMENTS).

    Returns:
        Score, (…); NaN where undefined.
    """
    columns = np.asarray(sums, np.float64)
    return CONTINUOUS[name](*(columns[..., i] for i in range(len(MOMENTS))))
