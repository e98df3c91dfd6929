"""Features of the fields of a frame, by which its quality is judged."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from polarcast.data.scaling import RANGES

Features = npt.NDArray[np.float64]

RAINY_DBZ = 20.0
"""ZH of a rainy cell; about 0.65 mm/h by Z = 200 R^1.6."""
PERCENTILES = (10, 50, 90, 99)
OF_FIELD = ("zeros", "mean", "std", *(f"p{percent}" for percent in PERCENTILES))
"""Features of each variable at each height: share of cells that are zero; mean, standard deviation and percentiles of
all cells in units of the variable's usual range."""
RAINY = "rainy"
"""Feature of each height: share of cells with at least `RAINY_DBZ`."""


def names_of(variables: Sequence[str], heights_km: Sequence[float]) -> list[str]:
    """Return the names of the features in their order, such as `zh 1 km std`; those of rainy cells are last."""
    fields = [
        f"{variable} {height:g} km {name}" for variable in variables for height in heights_km for name in OF_FIELD
    ]
    return [*fields, *(f"{RAINY} {height:g} km" for height in heights_km)]


def features_of(radar: npt.NDArray[np.floating], variables: Sequence[str]) -> Features:
    """Compute the features of a frame, (f,), in the order of `names_of`.

    Args:
        radar: (v, z, y, x) in dBZ and dB, zh first, fill 0.
        variables: Names along v.
    """
    flat = np.nan_to_num(radar.astype(np.float32)).reshape(*radar.shape[:2], -1)
    low, high = np.array([RANGES[name] for name in variables]).T[..., None, None]
    ranks = [round(percent / 100 * (flat.shape[-1] - 1)) for percent in PERCENTILES]
    ordered = np.partition(flat, ranks, -1)[..., ranks]
    # Sums in double precision do not depend on the order in which a machine adds them, to six digits.
    mean, std = flat.mean(-1, dtype=np.float64), flat.std(-1, dtype=np.float64)
    scaled = np.concatenate([((mean[..., None] - low) / (high - low)), std[..., None] / (high - low)], -1)
    of_field = np.concatenate([(flat == 0).mean(-1)[..., None], scaled, (ordered - low) / (high - low)], -1)
    return np.concatenate([of_field.ravel(), (flat[0] >= RAINY_DBZ).mean(-1)])


def summary_of(features: Features, names: Sequence[str]) -> Features:
    """Return what the rule judges by, (n, 3): share of rainy cells, share of zeros, spread; means over the fields.

    Args:
        features: (n, f).
        names: Names of the features, (f,).
    """
    chosen = ([name.startswith(RAINY) for name in names], *([name.endswith(end) for name in names] for end in _ENDS))
    return np.stack([features[:, np.array(mask)].mean(1) for mask in chosen], 1)


_ENDS = (" zeros", " std")
