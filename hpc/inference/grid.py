"""Where the pixels of a forecast lie, as CF 1.8 has it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.hpc.inference.netcdf import Array, Attribute, Variable

EARTH_RADIUS_M = 6370997.0
"""Of the sphere on which Py-ART places a radar's grid."""
_ANCHOR = "centre pixel of the grid"

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """A grid on the ground.

    Attributes:
        shape: Rows, columns.
        spacing_km: Of the pixels.
        site: Latitude and longitude in degrees of the pixel (size // 2, size // 2), where they are known.
    """

    shape: tuple[int, int]
    spacing_km: float
    site: tuple[float, float] | None = None

    def axes_km(self) -> tuple[Array, Array]:
        """(y,) north and (x,) east of the centre pixel; row 0 is the northernmost."""
        rows, columns = self.shape
        y = self.spacing_km * (rows // 2 - np.arange(rows, dtype=np.float64))
        return y, self.spacing_km * (np.arange(columns, dtype=np.float64) - columns // 2)

    def variables(self) -> dict[str, Variable]:
        """Axes, and latitude and longitude where they are known."""
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
        """What a field on this ground says of its coordinates, those that are named first."""
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
    """Latitude and longitude in degrees, each (y, x), of an azimuthal equidistant grid around a site (Snyder 1987,
    eq. 20-14 and 20-15).

    Args:
        y_km: (y,) north of the site.
        x_km: (x,) east of it.
        site: Its latitude and longitude in degrees.
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
