"""Structure, amplitude and location of rain (SAL; Wernli et al. 2008, with the threshold of Wernli et al. 2009)."""

import numpy as np
import numpy.typing as npt
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
_WITHIN_A_FIELD = np.zeros((3, 3, 3), bool)
_WITHIN_A_FIELD[1] = True


def sal_sums(forecast: Tensor, observed: Tensor) -> Tensor:
    """Sums of the components that are defined in each field, (n, PARTS) float64; of rain rates (n, y, x) in mm/h."""
    found = sal(_array(forecast), _array(observed))
    parts, defined = [np.nan_to_num(c) for c in found], [np.isfinite(c).astype(float) for c in found]
    (s, a, location), (has_s, has_a, has_l) = parts, defined
    return torch.from_numpy(np.stack([has_s, s, abs(s), has_a, a, abs(a), has_l, location], -1))


def sal(forecast: Array, observed: Array) -> tuple[Array, Array, Array]:
    """S, A and L of each pair of fields (n, y, x) in mm/h: (n,) each.

    S in [−2, 2] above 0: objects too large or too flat; undefined where neither has an object. A in [−2, 2]: relative
    error of the mean; undefined without any rain. L in [0, 2]: distance of the centres of mass, and of the objects
    from them; undefined where either has none.
    """
    volumes, spreads = zip(*(_objects(field) for field in (forecast, observed)), strict=True)
    means = [field.mean((1, 2)) for field in (forecast, observed)]
    apart = np.hypot(*(c - o for c, o in zip(_centre(forecast), _centre(observed), strict=True)))
    diagonal = np.hypot(*forecast.shape[1:])
    location = apart / diagonal + 2 * abs(spreads[0] - spreads[1]) / diagonal
    return _contrast(*volumes), _contrast(*means), location


def _contrast(forecast: Array, observed: Array) -> Array:
    return quotient(forecast - observed, (forecast + observed) / 2)


def _array(field: Tensor) -> Array:
    return field.double().nan_to_num().cpu().numpy()


def _centre(field: Array) -> list[Array]:
    """Centre of mass, (n,) along y and x; NaN without rain."""
    whole = field.sum((1, 2))
    y, x = (np.arange(size, dtype=float) for size in field.shape[1:])
    return [quotient(field.sum(2) @ y, whole), quotient(field.sum(1) @ x, whole)]


def _objects(field: Array) -> tuple[Array, Array]:
    """Of each field: the scaled volume of its objects, 0 without any, and their distance from its centre, NaN then.

    An object is what hangs together, also by corners, above a fifteenth of the wet pixels' 95th percentile.
    """
    from scipy import ndimage

    labels, count = ndimage.label(field >= _thresholds(field)[:, None, None], structure=_WITHIN_A_FIELD)
    inside = np.flatnonzero(labels)
    label, rain = labels.ravel()[inside] - 1, field.ravel()[inside]
    n, y, x = np.unravel_index(inside, field.shape)
    mass = _total(label, rain, count)
    peak, home = np.zeros(count), np.zeros(count, np.int64)
    np.maximum.at(peak, label, rain)
    home[label] = n
    middle = [_total(label, rain * axis, count) / mass for axis in (y, x)]
    distance = np.hypot(*(m - c[home] for m, c in zip(middle, _centre(field), strict=True)))
    whole = _total(home, mass, len(field))
    return _mean_of(mass * mass / peak, home, whole, 0.0), _mean_of(mass * distance, home, whole, np.nan)


def _mean_of(terms: Array, home: npt.NDArray[np.int64], whole: Array, empty: float) -> Array:
    return np.where(whole > 0, quotient(_total(home, terms, len(whole)), whole), empty)


def _total(index: npt.NDArray[np.int64], values: Array, size: int) -> Array:
    """Sum of the values at each index, (size,); float also where there is none."""
    return np.bincount(index, values, size).astype(float)


def _thresholds(field: Array) -> Array:
    """Above which a pixel of each field belongs to an object, (n,); infinite for a dry one."""
    wet = [of_one[of_one >= WET_MM_H] for of_one in field]
    return np.array([_SHARE * np.quantile(w, _QUANTILE) if len(w) else np.inf for w in wet])
