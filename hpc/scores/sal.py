"""Structure, amplitude and location of rain (SAL).

References:
    Wernli et al. (2008), with the object threshold of Wernli et al. (2009).
"""

import numpy as np
import torch
from torch import Tensor

from polarcast.hpc.scores.ratios import Array, quotient

PARTS = (
    "frames_s", "sum_s", "sum_abs_s",
    "frames_a", "sum_a", "sum_abs_a",
    "frames_l", "sum_l",
)  # fmt: skip
WET_MM_H = 0.1
_QUANTILE, _SHARE = 0.95, 1 / 15


def sal_sums(forecast: Tensor, observed: Tensor) -> Tensor:
    """Accumulate the defined SAL components of each field.

    Pixels that are NaN, in both fields alike, have no rain. The domain is the smallest rectangle around all others.

    Args:
        forecast: Rain rate in mm/h, (n, y, x).
        observed: Observed rain rate in mm/h, (n, y, x).

    Returns:
        (n, PARTS) float64.
    """
    components = sal(_array(forecast), _array(observed), _diagonals(observed))
    parts, defined = [np.nan_to_num(c) for c in components], [np.isfinite(c).astype(float) for c in components]
    (s, a, location), (has_s, has_a, has_l) = parts, defined
    return torch.from_numpy(np.stack([has_s, s, abs(s), has_a, a, abs(a), has_l, location], -1))


def sal(forecast: Array, observed: Array, diagonal: Array | None = None) -> tuple[Array, Array, Array]:
    """Compute structure S, amplitude A and location L of each pair of fields.

    - S = (V_f − V_o) / ½(V_f + V_o) of the scaled object volumes, in [−2, 2]. Positive: objects too large or too flat.
      Undefined if neither field has an object.
    - A = (D_f − D_o) / ½(D_f + D_o) of the domain means, in [−2, 2]. Undefined without any rain.
    - L = |x_f − x_o| / d + 2 |r_f − r_o| / d, in [0, 2]. x is the center of mass, r the objects' mean distance from it,
      and d the domain diagonal. Undefined if either field has no object.

    Args:
        forecast: Rain rate in mm/h, (n, y, x).
        observed: Observed rain rate in mm/h, (n, y, x).
        diagonal: Diagonal of the domain in pixels, (n,); that of the fields by default.

    Returns:
        S, A and L, (n,) each; NaN where undefined.

    References:
        Wernli et al. (2008).
    """
    centers = [_center(field) for field in (forecast, observed)]
    volumes, spreads = zip(*map(_objects, (forecast, observed), centers), strict=True)
    means = [field.mean((1, 2)) for field in (forecast, observed)]
    shift = np.hypot(*(c - o for c, o in zip(*centers, strict=True)))
    length = np.hypot(*forecast.shape[1:]) if diagonal is None else diagonal
    location = shift / length + 2 * abs(spreads[0] - spreads[1]) / length
    return _relative_difference(*volumes), _relative_difference(*means), location


def _relative_difference(forecast: Array, observed: Array) -> Array:
    return quotient(forecast - observed, (forecast + observed) / 2)


def _diagonals(observed: Tensor) -> Array | None:
    """Return the diagonal of each domain in pixels, (n,), at least 1; None if nothing is missing."""
    valid = ~observed.isnan()
    return None if valid.all() else np.hypot(*(_extent(valid.any(axis)) for axis in (2, 1))).clip(min=1)


def _extent(valid: Tensor) -> Array:
    """Return the number of positions from the first to the last valid one, (n,), from (n, position)."""
    between = valid.long().cummax(1).values & valid.flip(1).long().cummax(1).values.flip(1)
    return between.sum(1).double().cpu().numpy()


def _array(field: Tensor) -> Array:
    return field.double().nan_to_num().cpu().numpy()


def _center(field: Array) -> Array:
    """Return the centers of mass along y and x, (2, n); NaN without rain."""
    total = field.sum((1, 2))
    y, x = (np.arange(size, dtype=float) for size in field.shape[1:])
    # The last digits of a matrix product depend on the number of fields.
    return np.stack([quotient((field.sum(2) * y).sum(1), total), quotient((field.sum(1) * x).sum(1), total)])


def _objects(field: Array, center: Array) -> tuple[Array, Array]:
    """Compute the mass-weighted scaled volume and distance from the center of mass (2, n) of each field's objects.

    An object is an 8-connected region at or above a fifteenth of the wet pixels' 95th percentile.

    Returns:
        Scaled volume, (n,), 0 without objects; distance in pixels, (n,), NaN without objects.
    """
    from polarcast.hpc.scores.pixel_kernels import object_terms

    terms = np.zeros((len(field), 3))
    object_terms(np.ascontiguousarray(field), _thresholds(field), center, terms)
    mass, volume, distance = terms.T
    return np.nan_to_num(quotient(volume, mass)), quotient(distance, mass)


def _thresholds(field: Array) -> Array:
    """Return the object threshold of each field in mm/h, (n,); infinite for a dry field."""
    wet = [plane[plane >= WET_MM_H] for plane in field]
    return np.array([_SHARE * np.quantile(w, _QUANTILE) if len(w) else np.inf for w in wet])
