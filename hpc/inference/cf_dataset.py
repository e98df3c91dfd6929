"""Forecast rain rates → what a netCDF file that follows CF 1.8 holds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.hpc.inference.grid import Field, Ground
from polarcast.hpc.inference.netcdf import FILL, Array, Attribute, Dataset, Variable

NO_DATE = "1970-01-01 00:00:00"


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

    @property
    def ground(self) -> Ground:
        """Where its pixels lie."""
        rows, columns = self.rain_rate.shape[-2:]
        return Ground((rows, columns), self.spacing_km, self.site)

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
    place: dict[str, Attribute] = {**forecasts.ground.attributes("frame"), "cell_methods": "time: point"}
    rain = _rain("rain rate", forecasts.rain_rate, ("member", "time", "y", "x"), place)
    variables = {**_coordinates(forecasts), **forecasts.ground.variables(), "rain_rate": rain}
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
    number = {"long_name": "number of the frame in its event", "units": "1"}
    return {
        "member": member_axis(len(forecasts.rain_rate)),
        "time": Variable(("time",), forecasts.seconds(), _clock(forecasts.times)),
        "frame": Variable(("time",), forecasts.frames.astype(np.int32), number),
    }


def member_axis(members: int) -> Variable:
    """Of an ensemble."""
    about = {"standard_name": "realization", "long_name": "ensemble member", "units": "1"}
    return Variable(("member",), np.arange(members, dtype=np.int32), about)


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
