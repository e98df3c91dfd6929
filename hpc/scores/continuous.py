"""How large the errors are: moments of forecast, observation and error, and what is made of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from polarcast.hpc.scores.ratios import Array, quotient

MOMENTS = ("pixels", "sum_obs", "sum_fc", "sum_abs_error", "sum_sq_error", "sum_sq_obs", "sum_sq_fc", "sum_obs_fc")


def moments(forecast: Tensor, observed: Tensor, classes: Sequence[float] = (-math.inf,)) -> Tensor:
    """Sums over the pixels of each field (n, y, x) that have both values, by class: (n, class, MOMENTS) float64.

    Args:
        forecast: (n, y, x).
        observed: (n, y, x) in the same units.
        classes: Lower limits of classes of the observed value, ascending; the first takes all below the second, too.
    """
    seen = ~(forecast.isnan() | observed.isnan())
    f, o = (torch.where(seen, field, 0).double().flatten(1) for field in (forecast, observed))
    edges = torch.tensor(classes[1:], dtype=o.dtype, device=o.device)
    of_class = torch.bucketize(o, edges, right=True).where(seen.flatten(1), -1)
    error = f - o
    terms = torch.stack([torch.ones_like(o), o, f, error.abs(), error.square(), o.square(), f.square(), o * f], 1)
    member = torch.stack([of_class == c for c in range(len(classes))], -1).double()
    return (terms @ member).mT


def _variance(n: Array, whole: Array, squares: Array) -> Array:
    return quotient(squares, n) - quotient(whole, n) ** 2


def _cc(n: Array, o: Array, f: Array, ae: Array, se: Array, oo: Array, ff: Array, of: Array) -> Array:
    covariance = quotient(of, n) - quotient(o, n) * quotient(f, n)
    return quotient(covariance, np.sqrt(np.clip(_variance(n, o, oo) * _variance(n, f, ff), 0, None)))


def _explained(n: Array, o: Array, f: Array, ae: Array, se: Array, oo: Array, ff: Array, of: Array) -> Array:
    return 1 - quotient(_variance(n, f - o, se), _variance(n, o, oo))


CONTINUOUS: dict[str, Callable[..., Array]] = {
    "mse": lambda n, o, f, ae, se, oo, ff, of: quotient(se, n),
    "rmse": lambda n, o, f, ae, se, oo, ff, of: np.sqrt(quotient(se, n)),
    "mae": lambda n, o, f, ae, se, oo, ff, of: quotient(ae, n),
    "ne": lambda n, o, f, ae, se, oo, ff, of: quotient(ae, o),  # normalised error, the paper's RBIAS
    "nb": lambda n, o, f, ae, se, oo, ff, of: quotient(f - o, o),  # normalised bias
    "cc": _cc,  # Pearson's correlation
    "explained_variance": _explained,  # 1 − Var(error) / Var(observation)
}


def continuous(name: str, sums: Array) -> Array:
    """A score of sums (…, MOMENTS) → (…); NaN where it is undefined."""
    return CONTINUOUS[name](*np.moveaxis(np.asarray(sums, np.float64), -1, 0))
