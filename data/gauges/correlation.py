"""Spatial correlation of rain, and the variance between a point and the mean over a pixel that follows from it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown

Real = npt.NDArray[np.float64]
OPTION = "--correlation"
_CELLS = 20
"""Cells along each side of a pixel, at whose distances the correlation is averaged."""


@dataclass(frozen=True)
class Correlation:
    """Correlation ρ(d) = c0 exp(−(d / d0)^s0) between the amounts at two points; 1 at distance 0.

    Attributes:
        km: d0, the distance at which it falls to c0 / e.
        shape: s0, 0 to 2.
        nugget: c0, 0 to 1; 1 − c0 is the share of the variance that a single gauge has by itself: its random error,
            and what varies within meters.

    References:
        Ciach & Krajewski (2006), Adv. Water Resour. 29, 1450–1463.
    """

    km: float
    shape: float = 1.0
    nugget: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.km < 1e5 and 0 < self.shape <= 2 and 0 < self.nugget <= 1):
            what = f"no correlation: {self.km:g} km, shape {self.shape:g}, nugget {self.nugget:g}"
            raise BadInput(what, OPTION, "give km above 0, a shape up to 2 and a nugget up to 1, such as 8,0.9,0.98")

    @classmethod
    def parse(cls, text: str) -> "Correlation":
        """Read `km,shape,nugget`; shape and nugget may be left out. Raises BadInput for other text."""
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3 or not np.isfinite(numbers).all():
            raise BadInput(f"{shown(text)} is no correlation", OPTION, "give km,shape,nugget, such as 8,0.9,0.98")
        return cls(*numbers)

    def at(self, km: Real) -> Real:
        """Return the correlation at distances above 0."""
        return np.asarray(self.nugget * np.exp(-((km / self.km) ** self.shape)), np.float64)


def area_point_factor(correlation: Correlation, side_km: float) -> float:
    """Return the variance between a gauge and the mean over a square around it, as a share of the gauge's variance.

    1 − 2 mean ρ(gauge, point of the square) + mean ρ(two points of the square), the variance reduction factor (Ciach &
    Krajewski 1999, Adv. Water Resour. 22, 585–595). The gauge may be anywhere in the square: the first mean is over all
    its places, and equals the second one.

    Args:
        correlation: Correlation between points.
        side_km: Side of the square.
    """
    return float(factors(np.array([correlation.km]), np.array([correlation.shape]), side_km, correlation.nugget)[0])


def factors(km: Real, shape: Real, side_km: float, nugget: Real | float) -> Real:
    """Return `area_point_factor` of several correlations, (n,)."""
    return np.asarray(1 - nugget * mean_correlation(km, shape, side_km), np.float64)


def mean_correlation(km: Real, shape: Real, side_km: float) -> Real:
    """Return the mean of exp(−(d / d0)^s0) over pairs of points of a square, (n,)."""
    distance, weight = _distances(side_km)
    return np.asarray(np.exp(-((distance / km[:, None]) ** shape[:, None])) @ weight, np.float64)


def _distances(side_km: float) -> tuple[Real, Real]:
    """Return distances between points of a square, and the density of each: that of a difference is a triangle."""
    steps = (np.arange(_CELLS) + 0.5) / _CELLS
    weight = np.outer(1 - steps, 1 - steps)
    distance = side_km * np.hypot(steps[:, None], steps)
    return distance.ravel(), (weight / weight.sum()).ravel()
