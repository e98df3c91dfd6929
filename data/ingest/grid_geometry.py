"""Where the pixels of a gridded sequence are, and how its tiles of 1 km pixels lie on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput

KM_PER_DEGREE = 111.195
"""Of a great circle on a sphere of 6371 km."""
Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """A grid, seen north up.

    Attributes:
        shape: (y, x).
        spacing: Between rows and between columns: km on a plane, degrees in longitude and latitude.
        corner: Latitude of the northernmost row's centres and longitude of the westernmost column's; None on a plane.
        south_first: Whether the file's first row is the southernmost.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    corner: tuple[float, float] | None = None
    south_first: bool = False

    @classmethod
    def plane(cls, shape: tuple[int, ...], dy_km: float, dx_km: float, south_first: bool = False) -> "Geometry":
        """A grid with rows and columns in km."""
        return cls((shape[0], shape[1]), (abs(dy_km), abs(dx_km)), None, south_first)

    @classmethod
    def lat_lon(cls, shape: tuple[int, ...], lat0: float, lon0: float, dlat: float, dlon: float) -> "Geometry":
        """A grid in degrees, from the centre of the file's first pixel."""
        north = lat0 if dlat < 0 else lat0 + (shape[0] - 1) * dlat
        return cls((shape[0], shape[1]), (abs(dlat), dlon), (north, lon0), dlat > 0)

    def rows_in_file(self, rows: slice) -> slice:
        """Rows counted from the north → rows as stored."""
        return slice(self.shape[0] - rows.stop, self.shape[0] - rows.start) if self.south_first else rows

    @property
    def spacing_km(self) -> tuple[float, float]:
        """Between rows and between columns, in km at the grid's middle."""
        if self.corner is None:
            return self.spacing
        middle = self.corner[0] - self.shape[0] * self.spacing[0] / 2
        return self.spacing[0] * KM_PER_DEGREE, self.spacing[1] * KM_PER_DEGREE * float(np.cos(np.deg2rad(middle)))

    @property
    def is_archive_grid(self) -> bool:
        """Whether its pixels are the archive's: 1 km by 1 km on a plane."""
        return self.corner is None and self.spacing == (1.0, 1.0)

    def tiles(self, size: int) -> list[tuple[float, float]]:
        """(south, east) of the north-west corner of each tile, in km from the grid's; evenly placed, rows from north.

        East is counted from the grid's western edge on a plane, from its middle meridian otherwise: there meridians
        converge, and a northern row of tiles may be shorter.
        """
        height = self.shape[0] * self.spacing_km[0]
        corners = []
        for south in _evenly(height, size):
            width = self._width_km(south, size)
            start = 0.0 if self.corner is None else -width / 2
            corners += [(south, start + east) for east in _evenly(width, size)]
        return corners

    def places(self, south: float, east: float, size: int, margin: int) -> tuple[Real, Real]:
        """Rows and columns (fractions of pixels) under the centres of a tile's pixels, each (size + 2 margin)²."""
        offsets = np.arange(-margin, size + margin) + 0.5
        km_south, km_east = np.meshgrid(south + offsets, east + offsets, indexing="ij")
        if self.corner is None:
            return km_south / self.spacing[0] - 0.5, km_east / self.spacing[1] - 0.5
        north_edge = self.corner[0] + self.spacing[0] / 2
        latitude = north_edge - km_south / KM_PER_DEGREE
        # About the tile's own middle, so that its pixels are square whatever its distance from the middle meridian.
        middle_east, middle_latitude = east + size / 2, north_edge - (south + size / 2) / KM_PER_DEGREE
        centre = self._middle_longitude() + middle_east / (KM_PER_DEGREE * np.cos(np.deg2rad(middle_latitude)))
        longitude = centre + (km_east - middle_east) / (KM_PER_DEGREE * np.cos(np.deg2rad(latitude)))
        return (self.corner[0] - latitude) / self.spacing[0], (longitude - self.corner[1]) / self.spacing[1]

    def _middle_longitude(self) -> float:
        assert self.corner is not None
        return self.corner[1] + (self.shape[1] - 1) / 2 * self.spacing[1]

    def _width_km(self, south: float, size: int) -> float:
        """Of the grid at a row of tiles, where it is narrowest."""
        if self.corner is None:
            return self.shape[1] * self.spacing[1]
        edges = self.corner[0] + self.spacing[0] / 2 - np.array([south, south + size]) / KM_PER_DEGREE
        return float(self.shape[1] * self.spacing[1] * KM_PER_DEGREE * np.cos(np.deg2rad(np.abs(edges).max())))


def geometry_of_axes(array: Any, spacing_km: float | None, path: Path) -> Geometry:
    """Geometry of a (time, y, x) variable of xarray, from its axes or a given spacing.

    Raises:
        BadInput: an axis is missing, uneven or of unknown units, and no spacing was given.
    """
    rows, columns = (_axis(array, dim) for dim in array.dims[1:])
    south_first = rows is not None and len(rows[0]) > 1 and bool(rows[0][1] > rows[0][0])
    if spacing_km:
        return Geometry.plane(array.shape[1:], spacing_km, spacing_km, south_first)
    if rows is None or columns is None:
        raise BadInput("no x and y axes with units of m, km or degrees", path, "give the pixels' size: --spacing-km 1")
    (y, unit), (x, _) = rows, columns
    dy, dx = float(np.diff(y).mean()), float(np.diff(x).mean())
    if not (np.allclose(np.diff(y), dy, rtol=0.01) and np.allclose(np.diff(x), dx, rtol=0.01)) or dx <= 0:
        raise BadInput("its pixels are not evenly spaced from west to east", path, "regrid it to an even spacing")
    if unit == "degrees":
        return Geometry.lat_lon(array.shape[1:], float(y[0]), float(x[0]), dy, dx)
    km = {"m": 0.001, "km": 1.0}[unit]
    return Geometry.plane(array.shape[1:], round(dy * km, 6), round(dx * km, 6), south_first)


def _axis(array: Any, dim: Any) -> tuple[Real, str] | None:
    """Values and unit (m, km, degrees) of an axis; None without them."""
    if dim not in array.coords:
        return None
    unit = str(array[dim].attrs.get("units", "")).lower()
    kind = "degrees" if unit.startswith("degree") else {"m": "m", "metre": "m", "meter": "m", "km": "km"}.get(unit)
    return (array[dim].values.astype(np.float64), kind) if kind else None


def _evenly(length: float, size: int) -> list[float]:
    """Starts of as many pieces of `size` as fit into `length`, centred."""
    number = int(length // size)
    rest = np.floor((length - number * size) / 2)
    return [float(rest + i * size) for i in range(number)]
