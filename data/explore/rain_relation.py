"""Test whether the rain grid is computed from KDP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.floating]

PRODUCT_CORRELATION = 0.99
"""Correlation with a power law of KDP above which the rain grid counts as a product of KDP."""
_LEAST_PIXELS = 50


@dataclass(frozen=True)
class RainRelation:
    """Fit of R = a · max(KDP, 0)^b at one height."""

    height_km: float
    a: float
    """Rain rate in mm/h at KDP of 1 deg/km."""
    b: float
    correlation: float
    """Correlation of the rain grid with the fitted law over all pixels; NaN if it can't be fitted."""
    pixels: int

    @property
    def is_product(self) -> bool:
        """Whether the rain grid is this function of KDP."""
        return bool(self.correlation > PRODUCT_CORRELATION)


def fit_rain_relations(kdp: Real, rain: Real, heights_km: Sequence[float]) -> list[RainRelation]:
    """Fit R = a · max(KDP, 0)^b at each height.

    Args:
        kdp: (n, z) in deg/km.
        rain: (n,) in mm/h.
        heights_km: Heights along z.
    """
    return [_fit(kdp[:, z], rain, height) for z, height in enumerate(heights_km)]


def verdict(relations: Sequence[RainRelation]) -> str:
    """Summarize the fits in one sentence."""
    best = max(relations, key=lambda r: np.nan_to_num(r.correlation, nan=-1))
    law = f"R = {best.a:.1f} · max(KDP, 0)^{best.b:.3f} at {best.height_km:g} km, r = {best.correlation:.4f}"
    if best.is_product:
        return (
            f"the rain grid is an R(KDP) product ({law}): QPE scores on it measure agreement with KDP, not with gauges"
        )
    return f"the rain grid is not a function of KDP (best fit: {law})"


def _fit(kdp: Real, rain: Real, height_km: float) -> RainRelation:
    from scipy.optimize import curve_fit

    positive = (kdp > 0) & (rain > 0)
    if positive.sum() < _LEAST_PIXELS or rain.std() == 0:
        return RainRelation(height_km, np.nan, np.nan, np.nan, len(rain))
    k = np.maximum(kdp.astype(np.float64), 0)
    b, log_a = np.polyfit(np.log(k[positive]), np.log(rain[positive]), 1)
    try:
        (a, b), _ = curve_fit(_law, k, rain.astype(np.float64), (np.exp(log_a), max(b, 0.1)), bounds=(0, [1e4, 5]))
    except (
        RuntimeError,
        ValueError,
    ):  # no convergence, or a first guess out of bounds: the law does not describe these data
        return RainRelation(height_km, np.nan, np.nan, np.nan, len(rain))
    fitted = _law(k, a, b)
    correlation = float(np.corrcoef(fitted, rain)[0, 1]) if fitted.std() > 0 else np.nan
    return RainRelation(height_km, float(a), float(b), correlation, len(rain))


def _law(kdp: Real, a: float, b: float) -> Real:
    return a * kdp**b
