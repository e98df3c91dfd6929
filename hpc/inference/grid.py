"""Grid coordinates of a forecast, following CF 1.8."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.hpc.inference.netcdf import Array, Attribute, Variable

EARTH_RADIUS_M = 6370997.0
"""Radius of the sphere that Py-ART uses for radar grids."""
_ANCHOR = "centre pixel of the grid"

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """Horizontal grid.

    Attributes:
        shape: Number of rows and columns.
        spacing_km: Pixel spacing.
        site: Latitude and longitude in degrees of the pixel (size // 2, size // 2); None if unknown.
    """

    shape: tuple[int, int]
    spacing_km: float
    site: tuple[float, float] | None = None

    def axes_km(self) -> tuple[Array, Array]:
        """Return the distances (y,) north and (x,) east of the center pixel in km; row 0 is the northernmost."""
        rows, columns = self.shape
        y = self.spacing_km * (rows // 2 - np.arange(rows, dtype=np.float64))
        return y, self.spacing_km * (np.arange(columns, dtype=np.float64) - columns // 2)

    def variables(self) -> dict[str, Variable]:
        """Return the axes, and latitude and longitude if the site is known."""
        y, x = self.axes_km()
        return {
            "y": Variable(("y",), y, {
                "standard_name": "projection_y_coordinate", "long_name": f"distance north of the {_ANCHOR}",
                "units": "km", "axis": "Y"}),
            "x": Variable(("x",), x, {
                "standard_name": "projection_x_coordinate", "long_name": f"distance east of the {_ANCHOR}",
                "units": "km", "axis": "X"}),
            **self._geography(),
        }  # fmt: skip

    def attributes(self, *coordinates: str) -> dict[str, Attribute]:
        """Return the coordinate attributes of a field on this grid, with the given coordinates first."""
        if not self.site:
            return {"coordinates": " ".join(coordinates)}
        return {"coordinates": " ".join([*coordinates, "latitude", "longitude"]), "grid_mapping": "projection"}

    def _geography(self) -> dict[str, Variable]:
        if not self.site:
            return {}
        latitude, longitude = self.site
        mapping: dict[str, Attribute] = {
            "grid_mapping_name": "azimuthal_equidistant", "latitude_of_projection_origin": latitude,
            "longitude_of_projection_origin": longitude, "false_easting": 0.0, "false_northing": 0.0,
            "earth_radius": EARTH_RADIUS_M,
        }  # fmt: skip
        north, east = geographic(*self.axes_km(), self.site)
        return {
            "projection": Variable((), np.zeros((), np.int32), mapping),
            "latitude": Variable(("y", "x"), north, {
                "standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}),
            "longitude": Variable(("y", "x"), east, {
                "standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}),
        }  # fmt: skip


def geographic(y_km: Array, x_km: Array, site: tuple[float, float]) -> tuple[Field, Field]:
    """Return latitude and longitude in degrees, each (y, x), of an azimuthal equidistant grid around a site.

    Source: Snyder (1987), eq. 20-14 and 20-15.

    Args:
        y_km: Distances north of the site, (y,).
        x_km: Distances east of the site, (x,).
        site: Latitude and longitude of the site in degrees.
    """
    y, x = np.meshgrid(1000 * y_km, 1000 * x_km, indexing="ij")
    distance = np.hypot(x, y)
    angle, origin = distance / EARTH_RADIUS_M, np.deg2rad(site[0])
    with np.errstate(invalid="ignore"):
        north = np.where(distance > 0, y * np.sin(angle) * np.cos(origin) / distance, 0)
    latitude = np.arcsin(np.cos(angle) * np.sin(origin) + north)
    turned = np.arctan2(
        x * np.sin(angle), distance * np.cos(origin) * np.cos(angle) - y * np.sin(origin) * np.sin(angle)
    )
    longitude = (site[1] + np.rad2deg(turned) + 180) % 360 - 180
    return np.rad2deg(latitude).astype(np.float32), longitude.astype(np.float32)
