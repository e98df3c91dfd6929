"""Pixel geometry of a gridded sequence, and the placement of 1 km tiles on it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KM_PER_DEGREE = 111.195
"""Length of a degree of a great circle on a sphere of radius 6371 km."""
AS_ONE_KM = 0.005
"""Tolerance in km within which a pixel spacing counts as 1 km. Composites in a stereographic projection (999.67 m, for
example) would gain nothing from an interpolation by less than a pixel."""
Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LocalSpacing:
    """Ground distances of rows and columns over a grid, at places spread evenly from edge to edge.

    Attributes:
        rows, columns: (n, m) km from north to south and west to east.
    """

    rows: tuple[tuple[float, ...], ...]
    columns: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, rows: Real, columns: Real) -> "LocalSpacing":
        """Return the distances of two arrays (n, m)."""
        return cls(*(tuple(map(tuple, values.tolist())) for values in (rows, columns)))

    @property
    def arrays(self) -> tuple[Real, Real]:
        """Both as arrays (n, m)."""
        return np.array(self.rows), np.array(self.columns)

    def at(self, south: float, east: float) -> tuple[float, float]:
        """Return the distances of rows and columns at a place, 0 to 1 from the north and from the west."""
        from scipy.ndimage import map_coordinates  # slow to import, and training imports this module

        rows, columns = (
            float(map_coordinates(values, [[south * (values.shape[0] - 1)], [east * (values.shape[1] - 1)]], order=1,
                                  mode="nearest")[0])
            for values in self.arrays
        )  # fmt: skip
        return rows, columns


@dataclass(frozen=True)
class Geometry:
    """A grid, with north up.

    Attributes:
        shape: (y, x).
        spacing: Spacing of rows and columns; km on a plane, degrees in latitude and longitude.
        corner: Latitude of the northernmost row's centres and longitude of the westernmost column's; None on a plane.
        south_first: Whether the file's first row is the southernmost.
        is_rotated: Whether degrees are those of a rotated pole, and no place on the Earth is known.
        local: Spacing over a plane whose ground distances vary; `spacing` is that of the centre. None elsewhere.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    corner: tuple[float, float] | None = None
    south_first: bool = False
    is_rotated: bool = False
    local: LocalSpacing | None = None

    @classmethod
    def plane(cls, shape: tuple[int, ...], dy_km: float, dx_km: float, south_first: bool = False) -> "Geometry":
        """Return a grid with spacing in km; nearly 1 km counts as 1 km, see `AS_ONE_KM`."""
        spacing = (abs(dy_km), abs(dx_km))
        is_archive_grid = max(abs(s - 1) for s in spacing) <= AS_ONE_KM
        return cls((shape[0], shape[1]), (1.0, 1.0) if is_archive_grid else spacing, None, south_first)

    @classmethod
    def lat_lon(
        cls, shape: tuple[int, ...], lat0: float, lon0: float, dlat: float, dlon: float, *, is_rotated: bool = False
    ) -> "Geometry":
        """Return a grid in degrees, given the centre of the file's first pixel."""
        north = lat0 if dlat < 0 else lat0 + (shape[0] - 1) * dlat
        return cls((shape[0], shape[1]), (abs(dlat), dlon), (north, lon0), dlat > 0, is_rotated)

    def rows_in_file(self, rows: slice) -> slice:
        """Convert rows counted from the north to rows as stored."""
        return slice(self.shape[0] - rows.stop, self.shape[0] - rows.start) if self.south_first else rows

    @property
    def spacing_km(self) -> tuple[float, float]:
        """Spacing of rows and columns in km at the centre of the grid."""
        if self.corner is None:
            return self.spacing
        middle = self.corner[0] - self.shape[0] * self.spacing[0] / 2
        return self.spacing[0] * KM_PER_DEGREE, self.spacing[1] * KM_PER_DEGREE * float(np.cos(np.deg2rad(middle)))

    @property
    def is_archive_grid(self) -> bool:
        """Whether the pixels match the archive: 1 km by 1 km on a plane."""
        return self.corner is None and self.local is None and self.spacing == (1.0, 1.0)

    @property
    def extent(self) -> tuple[float, float, float, float] | None:
        """South, west, north and east edge in degrees; None on a plane or of a rotated pole."""
        if self.corner is None or self.is_rotated:
            return None
        (north, west), (dy, dx) = self.corner, self.spacing
        south, east = north - (self.shape[0] - 1) * dy, west + (self.shape[1] - 1) * dx
        return (south - dy / 2, west - dx / 2, north + dy / 2, east + dx / 2)

    def tiles(self, size: int) -> list[tuple[float, float]]:
        """Return (south, east) of each tile's north-west corner, in km from the grid's; tiles are centred, north first.

        East is measured from the western edge on a plane, and from the central meridian on a grid in degrees. Meridians
        converge there, so that a northern row may have fewer tiles.
        """
        height = self.shape[0] * self.spacing_km[0]
        corners = []
        for south in _evenly(height, size):
            width = self._width_km(south, size)
            start = 0.0 if self.corner is None else -width / 2
            corners += [(south, start + east) for east in _evenly(width, size)]
        return corners

    def places(self, south: float, east: float, size: int, margin: int) -> tuple[Real, Real]:
        """Return fractional rows and columns of the centres of a tile's pixels, each (size + 2 margin)²."""
        offsets = np.arange(-margin, size + margin) + 0.5
        km_south, km_east = np.meshgrid(south + offsets, east + offsets, indexing="ij")
        if self.corner is None:
            return self._places_on_plane(km_south, km_east, south + size / 2, east + size / 2)
        north_edge = self.corner[0] + self.spacing[0] / 2
        latitude = north_edge - km_south / KM_PER_DEGREE
        # Relative to the tile's centre, so that its pixels are square at any distance from the central meridian.
        middle_east, middle_latitude = east + size / 2, north_edge - (south + size / 2) / KM_PER_DEGREE
        centre = self._middle_longitude() + middle_east / (KM_PER_DEGREE * np.cos(np.deg2rad(middle_latitude)))
        longitude = centre + (km_east - middle_east) / (KM_PER_DEGREE * np.cos(np.deg2rad(latitude)))
        return (self.corner[0] - latitude) / self.spacing[0], (longitude - self.corner[1]) / self.spacing[1]

    def _places_on_plane(self, km_south: Real, km_east: Real, south: float, east: float) -> tuple[Real, Real]:
        """Return rows and columns around the centre of a tile, at the spacing there."""
        dy, dx = self.spacing
        if self.local is None:
            return km_south / dy - 0.5, km_east / dx - 0.5
        here_y, here_x = self.local.at(south / (self.shape[0] * dy), east / (self.shape[1] * dx))
        return (km_south - south) / here_y + south / dy - 0.5, (km_east - east) / here_x + east / dx - 0.5

    def _middle_longitude(self) -> float:
        assert self.corner is not None
        return self.corner[1] + (self.shape[1] - 1) / 2 * self.spacing[1]

    def _width_km(self, south: float, size: int) -> float:
        """Return the width of the grid where it is narrowest within a row of tiles."""
        if self.corner is None:
            return self.shape[1] * self.spacing[1]
        edges = self.corner[0] + self.spacing[0] / 2 - np.array([south, south + size]) / KM_PER_DEGREE
        return float(self.shape[1] * self.spacing[1] * KM_PER_DEGREE * np.cos(np.deg2rad(np.abs(edges).max())))


def _evenly(length: float, size: int) -> list[float]:
    """Return the starts of as many segments of `size` as fit into `length`, centred."""
    number = int(length // size)
    rest = np.floor((length - number * size) / 2)
    return [float(rest + i * size) for i in range(number)]
