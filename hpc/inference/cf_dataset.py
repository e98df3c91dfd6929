"""Convert rain-rate forecasts to a dataset that follows CF 1.8."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.gauges.places import GridPlace
from polarcast.hpc.inference.grid import Field, Ground
from polarcast.hpc.inference.netcdf import FILL, Array, Attribute, Dataset, Variable

NO_DATE = "1970-01-01 00:00:00"


@dataclass(frozen=True)
class Forecasts:
    """Rain-rate forecasts of one event, with their input fields.

    Attributes:
        rain_rate: Rain rate (m, t, y, x) in mm/h.
        frames: Numbers of the frames in their archive, (t,).
        first_frame: Number of the event's first frame; the origin of time if no times are known.
        radar: Radar fields (t, v, y, x) at the lowest height, in the units of the variables.
        variables: Names of the variables, (v,).
        height_km: Lowest height.
        observed: Observed rain rate (t, y, x) in mm/h; None if the input has none.
        spacing_km: Pixel spacing.
        step_minutes: Time between frames.
        times: UTC times of frame 0, 1, …; empty if unknown.
        site: Latitude and longitude in degrees of the pixel (size // 2, size // 2); None if unknown.
        warnings: Warnings about input and forecast, one line each.
        place: Where a grid without a site lies; None if unknown.
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
    place: GridPlace | None = None

    def seconds(self) -> Array:
        """Return the time of each frame since the first frame of the event in seconds, (t,)."""
        if self.times:
            clock = np.array(self.times, "datetime64[s]")
            return (clock[self.frames] - clock[0]) / np.timedelta64(1, "s")
        return 60 * self.step_minutes * (self.frames - self.first_frame).astype(np.float64)

    @property
    def ground(self) -> Ground:
        """Grid of the forecast."""
        rows, columns = self.rain_rate.shape[-2:]
        return Ground((rows, columns), self.spacing_km, self.site, self.place)

    def mean(self) -> Field:
        """Return the ensemble mean (t, y, x) in mm/h."""
        return self.rain_rate.mean(0, dtype=np.float64).astype(np.float32)

    def spread(self) -> Field:
        """Return the standard deviation of the members (t, y, x) in mm/h."""
        return self.rain_rate.std(0, ddof=1, dtype=np.float64).astype(np.float32)


def to_dataset(forecasts: Forecasts, attributes: Mapping[str, Attribute]) -> Dataset:
    """Return a dataset with coordinates, the rain rate of every member, and the mean of several members.

    Args:
        forecasts: Forecasts of an event.
        attributes: Global attributes of the file.
    """
    place: dict[str, Attribute] = {**forecasts.ground.attributes("frame"), "cell_methods": "time: point"}
    rain = _rain("rain rate", forecasts.rain_rate, ("member", "time", "y", "x"), place)
    variables = {**_coordinates(forecasts), **forecasts.ground.variables(), "rain_rate": rain}
    if len(forecasts.rain_rate) > 1:
        # CF checkers reject the cell method "realization: mean", because the variable has no such dimension.
        averaged: dict[str, Attribute] = {**place, "comment": "mean over the dimension member of rain_rate"}
        variables["rain_rate_mean"] = _rain(
            "mean rain rate of the members", forecasts.mean(), ("time", "y", "x"), averaged
        )
    return Dataset(variables, attributes)


def _rain(long_name: str, values: Field, dimensions: tuple[str, ...], more: Mapping[str, Attribute]) -> Variable:
    about: dict[str, Attribute] = {
        "standard_name": "rainfall_rate",
        "long_name": long_name,
        "units": "mm h-1",
        "_FillValue": FILL,
    }
    return Variable(dimensions, np.where(np.isfinite(values), values, FILL), {**about, **more})


def _coordinates(forecasts: Forecasts) -> dict[str, Variable]:
    about_frame = {"long_name": "number of the frame in its event", "units": "1"}
    return {
        "member": member_axis(len(forecasts.rain_rate)),
        "time": Variable(("time",), forecasts.seconds(), _clock(forecasts.times)),
        "frame": Variable(("time",), forecasts.frames.astype(np.int32), about_frame),
    }


def member_axis(members: int) -> Variable:
    """Return the coordinate of the ensemble members."""
    about = {"standard_name": "realization", "long_name": "ensemble member", "units": "1"}
    return Variable(("member",), np.arange(members, dtype=np.int32), about)


def _clock(times: tuple[str, ...]) -> dict[str, Attribute]:
    """Return the attributes of the time axis. CF requires a date: if unknown, a nominal one marks the first frame."""
    about: dict[str, Attribute] = {"standard_name": "time", "calendar": "standard", "axis": "T"}
    if times:
        return {**about, "long_name": "time", "units": f"seconds since {times[0].replace('T', ' ')}"}
    nominal = f"the input has no date: {NO_DATE} is a nominal time of the first frame of the event"
    return {
        **about, "long_name": "time since the first frame of the event", "units": f"seconds since {NO_DATE}",
        "comment": nominal,
    }  # fmt: skip
