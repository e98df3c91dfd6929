"""Latitudes and longitudes of pixels on a plane, kept in the event's note so that gauges can be found on its tile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from polarcast.data.ingest.grids.axes import Dims, degrees_of, positions
from polarcast.data.ingest.grids.geometry import Geometry, Real

STEP = 16
"""Pixels between control points. Over 16 km, a bilinear surface deviates from a projection by less than 20 m."""
_DECIMALS = 6
_CORNERS = ("LL_lat", "LL_lon", "UR_lat", "UR_lon", "xscale", "yscale")


class Positions(Protocol):
    """Places of the pixels of a grid, counted from the north and the west."""

    def at(self, rows: Real, columns: Real) -> tuple[Real, Real]:
        """Return latitude and longitude of fractional rows and columns, in their shape."""
        ...


@dataclass(frozen=True)
class StoredPositions:
    """Places that a file stores for each pixel, (y, x); longitudes without a jump."""

    latitude: Real = field(repr=False)
    longitude: Real = field(repr=False)

    def at(self, rows: Real, columns: Real) -> tuple[Real, Real]:
        """Interpolate between pixels."""
        return bilinear(self.latitude, rows, columns), bilinear(self.longitude, rows, columns)


@dataclass(frozen=True)
class ProjectedPositions:
    """Places by a projection.

    Attributes:
        projection: Definition of PROJ.
        west, north: Western and northern edge in m of the projection.
        spacing: Spacing of rows and columns in m.
    """

    projection: str
    west: float
    north: float
    spacing: tuple[float, float]

    def at(self, rows: Real, columns: Real) -> tuple[Real, Real]:
        """Invert the projection."""
        import pyproj

        x, y = self.west + (columns + 0.5) * self.spacing[1], self.north - (rows + 0.5) * self.spacing[0]
        longitude, latitude = pyproj.Proj(self.projection)(x, y, inverse=True)
        return np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)


def stored_positions(
    content: Any, dims: Dims, geometry: Geometry, from_east: bool, path: Path
) -> StoredPositions | None:
    """Return the places that a NetCDF file or Zarr folder has for its pixels.

    Returns:
        None if it has none, or if they run against the rows and columns, see `running_south_and_east`. Also None on a
        grid in degrees, whose corner and spacing say the same, unless they are those of a rotated pole.
    """
    if geometry.corner is not None and not geometry.is_rotated:
        return None
    found = positions(content, dims, path)
    if found is None and (degrees := degrees_of(content, dims, path)) is not None:  # a spacing in km was given
        latitude, longitude = np.meshgrid(*degrees, indexing="ij")
        found = latitude, longitude
    if found is None:
        return None
    rows, columns = slice(None, None, -1 if geometry.south_first else 1), slice(None, None, -1 if from_east else 1)
    return running_south_and_east(StoredPositions(*(values[rows, columns] for values in found)))


def running_south_and_east(places: StoredPositions) -> StoredPositions | None:
    """Return places of pixels with longitudes without a jump.

    Returns:
        None if one is unknown, or if they run against the rows and columns that were chosen for the fields: then one of
        both is wrong, and no place is better than a wrong one.
    """
    latitude, longitude = places.latitude, places.longitude
    if not (np.isfinite(latitude).all() and np.isfinite(longitude).all()):
        return None
    longitude = np.rad2deg(np.unwrap(np.unwrap(np.deg2rad(longitude), axis=1), axis=0))
    runs_south = np.median(np.diff(latitude, axis=0)) < 0
    runs_east = np.median(np.diff(longitude, axis=1)) > 0
    return StoredPositions(latitude, longitude) if runs_south and runs_east else None


def projected_positions(where: Mapping[str, Any], projection: str, geometry: Geometry) -> ProjectedPositions | None:
    """Return the places of an ODIM composite by its projection and its corners, which are outer edges.

    Returns:
        None where its attributes lack something or contradict each other, or if pyproj is not installed.
    """
    if geometry.corner is not None or not projection or not all(key in where for key in _CORNERS):
        return None
    try:
        import pyproj

        project = pyproj.Proj(projection)
        low_lat, low_lon, top_lat, top_lon, dx, dy = (float(np.ravel(where[key])[0]) for key in _CORNERS)
        (west, south), (east, north) = project(low_lon, low_lat), project(top_lon, top_lat)
    except (ImportError, RuntimeError, ValueError, TypeError):
        return None
    rows, columns = geometry.shape
    off = max(abs((north - south) / dy - rows), abs((east - west) / dx - columns)) if dx > 0 and dy > 0 else np.inf
    is_consistent = off <= 1.0 and not geometry.south_first
    return ProjectedPositions(projection, west, north, (dy, dx)) if is_consistent else None


def places_by_projection(
    where: Mapping[str, Any], projection: str, geometry: Geometry, found: ProjectedPositions | None
) -> ProjectedPositions | None:
    """Return places of an ODIM composite that are good enough to measure its scale: near its corners, if not at them.

    Args:
        where: Attributes of its place.
        projection: Definition of PROJ.
        geometry: Geometry on the plane of the projection.
        found: Its places, if its corners and scales agree.
    """
    if found is not None or geometry.corner is not None or not projection:
        return found
    try:
        import pyproj

        corners = [(float(np.ravel(where[f"{c}_lon"])[0]), float(np.ravel(where[f"{c}_lat"])[0])) for c in ("LL", "UR")]
        points = np.array([pyproj.Proj(projection)(*corner) for corner in corners])
    except (ImportError, RuntimeError, ValueError, TypeError, KeyError):
        return None
    if not np.isfinite(points).all():
        return None
    (rows, columns), (dy, dx) = geometry.shape, (1000 * s for s in geometry.spacing)
    x, y = points.mean(axis=0)
    return ProjectedPositions(projection, float(x - columns / 2 * dx), float(y + rows / 2 * dy), (dy, dx))


def control_points(found: Positions | None, geometry: Geometry, south: float, east: float, size: int) -> dict[str, Any]:
    """Return the positions of some of a tile's pixels for the note of its event.

    Args:
        found: Places of the source's pixels.
        geometry: Geometry of the source.
        south, east: Offsets of the tile's north-west corner in km, see `Geometry.tiles`.
        size: Tile size in pixels.

    Returns:
        `pixels`, the rows and columns of the control points, and `latitude` and `longitude`, by row and column; empty
        without positions.
    """
    if found is None:
        return {}
    chosen = np.unique([*range(0, size, STEP), size - 1])
    rows, columns = (places[np.ix_(chosen, chosen)] for places in geometry.places(south, east, size, 0))
    latitude, longitude = found.at(rows, columns)
    if not (np.isfinite(latitude).all() and np.isfinite(longitude).all()):
        return {}
    return {
        "geolocation": {
            "pixels": chosen.tolist(),
            "latitude": np.round(latitude, _DECIMALS).tolist(),
            "longitude": np.round((longitude + 180) % 360 - 180, _DECIMALS).tolist(),
        }
    }


def bilinear(values: Real, rows: Real, columns: Real) -> Real:
    """Interpolate (y, x) at fractional positions of any shape; beyond the outermost centers, extrapolate."""
    top = np.clip(np.floor(rows), 0, values.shape[0] - 2).astype(np.int64)
    left = np.clip(np.floor(columns), 0, values.shape[1] - 2).astype(np.int64)
    down, right = rows - top, columns - left
    upper = values[top, left] * (1 - right) + values[top, left + 1] * right
    lower = values[top + 1, left] * (1 - right) + values[top + 1, left + 1] * right
    out: Real = upper * (1 - down) + lower * down
    return out
