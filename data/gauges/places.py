"""Pixels of an archive's events by latitude and longitude."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.geometry import KM_PER_DEGREE
from polarcast.data.ingest.grids.positions import bilinear

Real = npt.NDArray[np.float64]
EARTH_RADIUS_KM = 6370.997
"""Radius of the sphere of Py-ART's grids, as in the forecasts' netCDF files."""
_TURNS, _CLOSE = 12, 1e-6


@dataclass(frozen=True)
class GridPlace:
    """Where the grid of an event lies.

    Attributes:
        shape: Rows and columns.
        spacing_km: Pixel spacing.
        site: Latitude and longitude of the radar at the pixel (rows // 2, columns // 2); None of a gridded product.
        extent: South, west, north and east edge of a product in degrees, and the tile's offset south of its north edge
            and east of its central meridian in km; None unless it is a grid in degrees.
        points: Rows and columns of control points, and their latitudes and longitudes; None without.
    """

    shape: tuple[int, int]
    spacing_km: float
    site: tuple[float, float] | None = None
    extent: tuple[tuple[float, float, float, float], float, float] | None = None
    points: tuple[Real, Real, Real] | None = None

    @property
    def key(self) -> str:
        """Text that is equal for events of one grid."""
        points = None if self.points is None else [values.tolist() for values in self.points]
        return repr((self.shape, self.spacing_km, self.site, self.extent, points))

    def pixels_of(self, latitude: Real, longitude: Real) -> tuple[Real, Real]:
        """Return fractional rows and columns of places in degrees, (n,) each; outside the grid they are beyond it."""
        if self.points is not None:
            return _by_points(self.points, latitude, longitude)
        if self.site is not None:
            x, y = azimuthal_equidistant(latitude, longitude, self.site)
            return self.shape[0] // 2 - y / self.spacing_km, self.shape[1] // 2 + x / self.spacing_km
        north, meridian, south_km = self._in_degrees()
        apart = _around_greenwich(longitude - meridian)
        columns = self.shape[0] / 2 + apart * KM_PER_DEGREE * np.cos(np.deg2rad(latitude)) - 0.5
        return (north - latitude) * KM_PER_DEGREE - south_km - 0.5, columns

    def places_of(self, rows: Real, columns: Real) -> tuple[Real, Real]:
        """Return latitudes and longitudes in degrees of fractional rows and columns, of any shape; see `pixels_of`."""
        if self.points is not None:
            at, latitude, longitude = self.points
            down, right = (np.interp(v, at, np.arange(len(at))) for v in (rows, columns))
            return bilinear(latitude, down, right), _around_greenwich(bilinear(longitude, down, right))
        if self.site is not None:
            east_km = self.spacing_km * (columns - self.shape[1] // 2)
            north_km = self.spacing_km * (self.shape[0] // 2 - rows)
            return from_azimuthal_equidistant(east_km, north_km, self.site)
        north, meridian, south_km = self._in_degrees()
        latitude = north - (rows + 0.5 + south_km) / KM_PER_DEGREE
        apart = (columns + 0.5 - self.shape[0] / 2) / (KM_PER_DEGREE * np.cos(np.deg2rad(latitude)))
        return latitude, _around_greenwich(meridian + apart)

    def _in_degrees(self) -> tuple[float, float, float]:
        """Return the north edge of a product in degrees, the tile's middle meridian, and its offset south in km."""
        assert self.extent is not None, "see place_of_event"
        (_, west, north, east), south_km, east_km = self.extent
        size = self.shape[0]
        middle = north - (south_km + size / 2) / KM_PER_DEGREE
        meridian = (west + east) / 2 + (east_km + size / 2) / (KM_PER_DEGREE * np.cos(np.deg2rad(middle)))
        return north, float(meridian), south_km

    def range_km(self, latitude: Real, longitude: Real) -> Real:
        """Return distances from the radar in km; NaN of a product of several radars."""
        if self.site is None:
            return np.full(np.shape(latitude), np.nan)
        x, y = azimuthal_equidistant(latitude, longitude, self.site)
        return np.asarray(np.hypot(x, y), np.float64)


def place_of_event(note: dict[str, Any], shape: tuple[int, int], spacing_km: float, where: str) -> GridPlace:
    """Return where the grid of an event lies, from its note.

    Raises:
        BadInput: The note does not tell it, as of the published archive, synthetic storms and grids on a plane.
    """
    site, points, extent, tile = (note.get(key) or {} for key in ("site", "geolocation", "extent", "tile"))
    try:
        if points:
            at, lat, lon = (np.array(points[key], np.float64) for key in ("pixels", "latitude", "longitude"))
            if lat.shape == lon.shape == (len(at), len(at)) and len(at) > 1:
                return GridPlace(shape, spacing_km, points=(at, lat, np.rad2deg(np.unwrap(np.deg2rad(lon)))))
        if site:
            where_is = float(site["latitude"]), float(site["longitude"])
            if abs(where_is[0]) <= 90 and abs(where_is[1]) <= 360 and where_is != (0, 0):
                return GridPlace(shape, spacing_km, site=where_is)
        if extent and tile:
            south, west, north, east = map(float, extent)
            offset = float(tile["south_km"]), float(tile["east_km"])
            return GridPlace(shape, spacing_km, extent=((south, west, north, east), *offset))
    except (KeyError, TypeError, ValueError):
        pass
    fix = "ingest files that tell where they are: radar volumes, or grids with latitudes and longitudes"
    raise BadInput("its place on the Earth is not known, so no gauge can be found on it", where, fix)


def azimuthal_equidistant(latitude: Real, longitude: Real, site: tuple[float, float]) -> tuple[Real, Real]:
    """Return distances east and north of a site in km, (n,) each, of the azimuthal equidistant projection.

    Source: Snyder (1987), eq. 22-4, 22-5, 25-2 and 5-3, on the sphere of `EARTH_RADIUS_KM`.
    """
    phi, origin = np.deg2rad(latitude), np.deg2rad(site[0])
    turn = np.deg2rad(np.asarray(longitude) - site[1])
    cosine = np.sin(origin) * np.sin(phi) + np.cos(origin) * np.cos(phi) * np.cos(turn)
    east = np.cos(phi) * np.sin(turn)
    north = np.cos(origin) * np.sin(phi) - np.sin(origin) * np.cos(phi) * np.cos(turn)
    sine = np.hypot(east, north)  # of the angle from the site; its arc cosine would be inaccurate nearby
    angle = np.arctan2(sine, cosine)
    scale = EARTH_RADIUS_KM * np.where(sine > 0, angle / np.where(sine > 0, sine, 1), 1.0)
    return scale * east, scale * north


def from_azimuthal_equidistant(east: Real, north: Real, site: tuple[float, float]) -> tuple[Real, Real]:
    """Return latitudes and longitudes in degrees of distances east and north of a site in km, each of any shape.

    Source: Snyder (1987), eq. 20-14 and 20-15, the inverse of `azimuthal_equidistant`.
    """
    distance = np.hypot(east, north)
    angle, origin = distance / EARTH_RADIUS_KM, np.deg2rad(site[0])
    across = np.where(distance > 0, north * np.sin(angle) / np.where(distance > 0, distance, 1), 0)
    latitude = np.arcsin(np.clip(np.cos(angle) * np.sin(origin) + across * np.cos(origin), -1, 1))
    turned = np.arctan2(
        east * np.sin(angle), distance * np.cos(origin) * np.cos(angle) - north * np.sin(origin) * np.sin(angle)
    )
    return np.rad2deg(latitude), _around_greenwich(site[1] + np.rad2deg(turned))


def _around_greenwich(longitude: Real) -> Real:
    """Return longitudes from -180 to 180 degrees."""
    out: Real = (longitude + 180) % 360 - 180
    return out


def distances_km(latitude: Real, longitude: Real) -> Real:
    """Return great-circle distances between places, (n, n) in km, by the haversine formula."""
    phi, theta = np.deg2rad(latitude), np.deg2rad(longitude)
    half = np.sin((phi[:, None] - phi) / 2) ** 2
    half = half + np.cos(phi[:, None]) * np.cos(phi) * np.sin((theta[:, None] - theta) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1))), np.float64)


def _by_points(points: tuple[Real, Real, Real], latitude: Real, longitude: Real) -> tuple[Real, Real]:
    """Invert the bilinear surface through control points by Newton's method."""
    at, lat, lon = points
    step = np.diff(at)
    middle = np.array((len(at) - 1) / 2)
    target_lon = lon.mean() + (longitude - lon.mean() + 180) % 360 - 180
    row, column = (np.full(np.shape(latitude), middle) for _ in range(2))
    for _ in range(_TURNS):
        here = bilinear(lat, row, column), bilinear(lon, row, column)
        down = [bilinear(v, row + _CLOSE, column) - h for v, h in zip((lat, lon), here, strict=True)]
        right = [bilinear(v, row, column + _CLOSE) - h for v, h in zip((lat, lon), here, strict=True)]
        north, east = latitude - here[0], target_lon - here[1]
        area = down[0] * right[1] - down[1] * right[0]
        row = row + _CLOSE * (north * right[1] - east * right[0]) / area
        column = column + _CLOSE * (down[0] * east - down[1] * north) / area
    return _pixels(at, step, row), _pixels(at, step, column)


def _pixels(at: Real, step: Real, control: Real) -> Real:
    """Convert positions between control points to pixels; the last step may be shorter than the others."""
    left = np.clip(np.floor(control), 0, len(step) - 1).astype(np.int64)
    out: Real = at[left] + (control - left) * step[left]
    return out
