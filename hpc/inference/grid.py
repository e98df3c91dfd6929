"""Grid coordinates of a forecast, following CF 1.8."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.gauges.places import EARTH_RADIUS_KM, GridPlace, from_azimuthal_equidistant
from polarcast.hpc.inference.netcdf import Array, Attribute, Variable

_ANCHOR = "centre pixel of the grid"

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """Horizontal grid.

    Attributes:
        shape: Number of rows and columns.
        spacing_km: Pixel spacing.
        site: Latitude and longitude in degrees of the pixel (size // 2, size // 2); None if unknown.
        place: Where a grid lies that has no site, such as a tile of a product of several radars; None if unknown.
    """

    shape: tuple[int, int]
    spacing_km: float
    site: tuple[float, float] | None = None
    place: GridPlace | None = None

    def axes_km(self) -> tuple[Array, Array]:
        """Return the distances (y,) north and (x,) east of the center pixel in km; row 0 is the northernmost."""
        rows, columns = self.shape
        y = self.spacing_km * (rows // 2 - np.arange(rows, dtype=np.float64))
        return y, self.spacing_km * (np.arange(columns, dtype=np.float64) - columns // 2)

    def variables(self) -> dict[str, Variable]:
        """Return the axes, and latitude and longitude if the site or the place is known."""
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
        if not (self.site or self.place):
            return {"coordinates": " ".join(coordinates)}
        mapping: dict[str, Attribute] = {"grid_mapping": "projection"} if self.site else {}
        return {"coordinates": " ".join([*coordinates, "latitude", "longitude"]), **mapping}

    def _geography(self) -> dict[str, Variable]:
        """Return latitudes and longitudes: of a site with its projection, of tiles of other products without."""
        if self.site:
            return {"projection": self._projection(self.site), **_places(*geographic(*self.axes_km(), self.site))}
        if self.place is None:
            return {}
        rows, columns = np.indices(self.shape, np.float64)
        return _places(*(values.astype(np.float32) for values in self.place.places_of(rows, columns)))

    def _projection(self, site: tuple[float, float]) -> Variable:
        latitude, longitude = site
        mapping: dict[str, Attribute] = {
            "grid_mapping_name": "azimuthal_equidistant", "latitude_of_projection_origin": latitude,
            "longitude_of_projection_origin": longitude, "false_easting": 0.0, "false_northing": 0.0,
            "earth_radius": 1000 * EARTH_RADIUS_KM,
        }  # fmt: skip
        return Variable((), np.zeros((), np.int32), mapping)


def _places(north: Field, east: Field) -> dict[str, Variable]:
    """Return auxiliary coordinates of the pixels, (y, x) in degrees (CF 1.8, section 5.2)."""
    return {
        name: Variable(("y", "x"), values, {"standard_name": name, "long_name": name, "units": f"degrees_{direction}"})
        for name, values, direction in (("latitude", north, "north"), ("longitude", east, "east"))
    }


def geographic(y_km: Array, x_km: Array, site: tuple[float, float]) -> tuple[Field, Field]:
    """Return latitude and longitude in degrees, each (y, x), of an azimuthal equidistant grid around a site.

    Args:
        y_km: Distances north of the site, (y,).
        x_km: Distances east of the site, (x,).
        site: Latitude and longitude of the site in degrees.
    """
    north, east = np.meshgrid(y_km, x_km, indexing="ij")
    latitude, longitude = from_azimuthal_equidistant(east, north, site)
    return latitude.astype(np.float32), longitude.astype(np.float32)
