"""Forecast rain rates → what a netCDF file that follows CF 1.8 holds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.hpc.netcdf import FILL, Array, Attribute, Dataset, Variable

EARTH_RADIUS_M = 6370997.0
"""Of the sphere on which Py-ART places a radar's grid."""

NO_DATE = "1970-01-01 00:00:00"

Field = npt.NDArray[np.float32]
_ANCHOR = "centre pixel of the grid"


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of one event, with what they were made of.

    Attributes:
        rain_rate: (m, t, y, x) in mm/h.
        frames: (t,) numbers of the frames in their archive.
        first_frame: Number of the event's first frame, from which time is counted where no clock is known.
        radar: (t, v, y, x) at the lowest height, in the units of its variables.
        variables: Names along v.
        height_km: The lowest height.
        observed: (t, y, x) rain rate in mm/h, None where the input has none.
        spacing_km: Of the pixels.
        step_minutes: Between frames.
        times: UTC of frame 0, 1, … where it is known.
        site: Latitude and longitude in degrees of the pixel (size // 2, size // 2), where they are known.
        warnings: What was unusual, a line each.
    """

    rain_rate: Field
    frames: npt.NDArray[np.int64]
    first_frame: int
    radar: Field
    variables: tuple[str, ...]
    height_km: float
    observed: Field | None
    spacing_km: float
    step_minutes: float
    times: tuple[str, ...] = ()
    site: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()

    def seconds(self) -> Array:
        """(t,) since the event began."""
        if self.times:
            clock = np.array(self.times, "datetime64[s]")
            return (clock[self.frames] - clock[0]) / np.timedelta64(1, "s")
        return 60 * self.step_minutes * (self.frames - self.first_frame).astype(np.float64)

    def axes_km(self) -> tuple[Array, Array]:
        """(y,) north and (x,) east of the centre pixel; row 0 is the northernmost."""
        rows, columns = self.rain_rate.shape[-2:]
        y = self.spacing_km * (rows // 2 - np.arange(rows, dtype=np.float64))
        return y, self.spacing_km * (np.arange(columns, dtype=np.float64) - columns // 2)

    def mean(self) -> Field:
        """(t, y, x), over the members."""
        return self.rain_rate.mean(0, dtype=np.float64).astype(np.float32)

    def spread(self) -> Field:
        """(t, y, x) standard deviation of the members about their mean."""
        return self.rain_rate.std(0, ddof=1, dtype=np.float64).astype(np.float32)


def to_dataset(forecasts: Forecasts, story: Mapping[str, Attribute]) -> Dataset:
    """Coordinates, rain rate of every member, and their mean where there are several.

    Args:
        forecasts: What was forecast.
        story: Attributes of the whole file.
    """
    place: dict[str, Attribute] = {"coordinates": "frame", "cell_methods": "time: point"}
    if forecasts.site:
        place = {**place, "coordinates": "frame latitude longitude", "grid_mapping": "projection"}
    rain = _rain("rain rate", forecasts.rain_rate, ("member", "time", "y", "x"), place)
    variables = {**_coordinates(forecasts), **_geography(forecasts), "rain_rate": rain}
    if len(forecasts.rain_rate) > 1:
        # As a cell method, "realization: mean", checkers would not take it: the dimension is gone.
        averaged: dict[str, Attribute] = {**place, "comment": "mean over the dimension member of rain_rate"}
        variables["rain_rate_mean"] = _rain(
            "mean rain rate of the members", forecasts.mean(), ("time", "y", "x"), averaged
        )
    return Dataset(variables, story)


def _rain(long_name: str, values: Field, dimensions: tuple[str, ...], more: Mapping[str, Attribute]) -> Variable:
    about: dict[str, Attribute] = {
        "standard_name": "rainfall_rate",
        "long_name": long_name,
        "units": "mm h-1",
        "_FillValue": FILL,
    }
    return Variable(dimensions, np.where(np.isfinite(values), values, FILL), {**about, **more})


def _coordinates(forecasts: Forecasts) -> dict[str, Variable]:
    y, x = forecasts.axes_km()
    members = np.arange(len(forecasts.rain_rate), dtype=np.int32)
    number = {"long_name": "number of the frame in its event", "units": "1"}
    return {
        "member": Variable(("member",), members, {
            "standard_name": "realization", "long_name": "ensemble member", "units": "1"}),
        "time": Variable(("time",), forecasts.seconds(), _clock(forecasts.times)),
        "y": Variable(("y",), y, {
            "standard_name": "projection_y_coordinate", "long_name": f"distance north of the {_ANCHOR}",
            "units": "km", "axis": "Y"}),
        "x": Variable(("x",), x, {
            "standard_name": "projection_x_coordinate", "long_name": f"distance east of the {_ANCHOR}",
            "units": "km", "axis": "X"}),
        "frame": Variable(("time",), forecasts.frames.astype(np.int32), number),
    }  # fmt: skip


def _clock(times: tuple[str, ...]) -> dict[str, Attribute]:
    """CF wants a date of every time axis: where none is known, a nominal one stands for the event's beginning."""
    about: dict[str, Attribute] = {"standard_name": "time", "calendar": "standard", "axis": "T"}
    if times:
        return {**about, "long_name": "time", "units": f"seconds since {times[0].replace('T', ' ')}"}
    nominal = f"the input tells no date: {NO_DATE} stands for the first frame of the event"
    return {
        **about, "long_name": "time since the first frame of the event", "units": f"seconds since {NO_DATE}",
        "comment": nominal,
    }  # fmt: skip


def _geography(forecasts: Forecasts) -> dict[str, Variable]:
    """Where the grid lies; nothing where that is not known."""
    if not forecasts.site:
        return {}
    latitude, longitude = forecasts.site
    mapping: dict[str, Attribute] = {
        "grid_mapping_name": "azimuthal_equidistant", "latitude_of_projection_origin": latitude,
        "longitude_of_projection_origin": longitude, "false_easting": 0.0, "false_northing": 0.0,
        "earth_radius": EARTH_RADIUS_M,
    }  # fmt: skip
    north, east = geographic(*forecasts.axes_km(), forecasts.site)
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
