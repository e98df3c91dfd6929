"""Read gauges from NetCDF files of the CF feature type timeSeries, (station, time) or (time, station)."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, shown
from polarcast.data.gauges.gauge import Gauge, Real, Times
from polarcast.data.gauges.options import END, INCH_MM, MOST_MINUTES, GaugeData, GaugeOptions
from polarcast.data.ingest.cf_values import decoded
from polarcast.data.ingest.grids.axes import place_of
from polarcast.data.ingest.grids.frames import open_dataset, read_errors_as_bad_input
from polarcast.data.ingest.grids.times import time_variables, times_of

_AMOUNTS = frozenset({
    "rainfall_amount", "precipitation_amount", "lwe_thickness_of_precipitation_amount", "thickness_of_rainfall_amount",
    "lwe_thickness_of_precipitation", "rain", "rainfall", "precipitation", "precip", "rr", "prcp", "amount",
})  # fmt: skip
_RATES = frozenset({"rainfall_rate", "lwe_precipitation_rate", "precipitation_flux", "rainfall_flux", "rain_rate",
                    "rainrate", "precipitation_rate"})  # fmt: skip
_CANONICAL = frozenset({"rainfall_amount", "precipitation_amount"})
"""CF standard names whose unit is kg m-2; a variable of this name without units is taken in mm."""
_MM = {"mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "millimeters": 1.0, "kg m-2": 1.0, "kg/m2": 1.0,
       "l m-2": 1.0, "l/m2": 1.0, "cm": 10.0, "m": 1000.0, "in": INCH_MM, "inch": INCH_MM,
       "inches": INCH_MM}  # fmt: skip
_PER_HOUR = {"h": 1.0, "hr": 1.0, "hour": 1.0, "min": 60.0, "minute": 60.0, "s": 3600.0, "sec": 3600.0, "d": 1 / 24,
             "day": 1 / 24}  # fmt: skip
_RATE = re.compile(r"(.+?)\s*(?:/\s*|\s+per\s+|\s+)(h|hr|hour|min|minute|s|sec|d|day)s?\s*(?:\^?-1)?")
_FIX = "write (station, time), with latitudes and longitudes of the stations (CF, featureType timeSeries)"


def read_netcdf(path: Path, options: GaugeOptions) -> GaugeData:
    """Read the gauges of a file, in order of station.

    Args:
        path: NetCDF file, with one rain variable along time, or time and stations. Time bounds give the intervals.
            Without them, intervals have the length of the regular step of the times, or of `options.minutes`.
        options: What the file does not say. CF times without offset are UTC, so `time_zone` is not used.

    Returns:
        Gauges, and a line for each assumption.

    Raises:
        BadInput: The file can't be read, has ragged arrays, no places, several rain variables, or unknown units.
    """
    with read_errors_as_bad_input(path, "file of gauges"), open_dataset(path) as content:
        if any({"sample_dimension", "instance_dimension"} & set(v.attrs) for v in content.variables.values()):
            raise BadInput("ragged arrays are not supported", path, "write one row per station: (station, time)")
        name = _rain_variable(content, path)
        array = content[name]
        times = _time(content, array, path)
        others = [str(d) for d in array.dims if d != times.dims[0] and array.sizes[d] > 1]
        if len(others) > 1:
            raise BadInput(f"{name} has the dimensions {', '.join(map(str, array.dims))}", path, _FIX)
        station = others[0] if others else next((str(d) for d in array.dims if d != times.dims[0]), None)
        ends, minutes, lines = _intervals(content, times, options, path)
        order = [d for d in array.dims if d not in (station, times.dims[0])] + [d for d in (station,) if d]
        values = decoded(np.asarray(array.values), array.attrs)
        axes = [array.dims.index(d) for d in (*order, times.dims[0])]
        values = values.transpose(axes).reshape(-1, len(ends))
        mm, said = _as_mm(values, minutes, name, array.attrs, path)
        latitude, longitude = (_coordinate(content, station, kind, len(mm), path) for kind in ("latitude", "longitude"))
        names = _names(content, station, len(mm), path)
    if options.time_zone is not None:
        lines = [*lines, "its times are UTC, as CF has it: the time zone is not used"]
    known = ~np.isnat(ends) & np.isfinite(minutes)
    gauges = [
        Gauge.of(who, float(lat), float(lon), ends[known], minutes[known], row[known])
        for who, lat, lon, row in zip(names, latitude, longitude, mm, strict=True)
    ]
    gauges.sort(key=lambda gauge: gauge.station)
    return GaugeData(tuple(gauges), tuple(f"{path.name}: {line}" for line in (*lines, *said)), (path,))


def _rain_variable(content: Any, path: Path) -> str:
    found = []
    for name, variable in content.data_vars.items():
        words = {str(name).lower(), str(variable.attrs.get("standard_name", "")).lower()}
        if words & (_AMOUNTS | _RATES) and variable.dtype.kind in "iuf" and variable.ndim:
            found.append(str(name))
    if not found:
        raise BadInput("no variable of rain", path, "give one the standard_name rainfall_amount, or rainfall_rate")
    if len(found) > 1:
        raise BadInput(f"several variables of rain: {', '.join(found)}", path, "leave one in the file")
    return found[0]


def _time(content: Any, array: Any, path: Path) -> Any:
    times = [v for v in time_variables(content, array.dims) if v.ndim == 1 and v.dims[0] in array.dims]
    if not times:
        raise BadInput(f"{array.name} has no time axis", path, _FIX)
    return times[0]


def _intervals(content: Any, times: Any, options: GaugeOptions, path: Path) -> tuple[Times, Real, list[str]]:
    """Return the ends of the intervals, their lengths in minutes, and what was assumed."""
    bounds = str(times.attrs.get("bounds", ""))
    if bounds and bounds in content.variables:
        variable = content.variables[bounds]
        given = {k: v for k, v in times.attrs.items() if k in ("units", "calendar")}
        edges = times_of(variable.copy(deep=False)._replace(attrs={**given, **variable.attrs}), path)
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise BadInput(f"time bounds of shape {edges.shape}", path, "write a start and an end for each time")
        minutes = np.diff(edges, axis=1)[:, 0] / np.timedelta64(60, "s")
        _check_lengths(minutes, path)
        return edges[:, 1], minutes, []
    at = times_of(times, path)
    minutes, how = _step(at, options, path)
    mark = "end" if options.mark == END else "begin"
    ends = at if options.mark == END else at + np.rint(60 * minutes).astype("timedelta64[s]")
    return ends, minutes, [f"no time bounds: intervals of {minutes[0]:g} min, {how}, that {mark} at its times"]


def _step(at: Times, options: GaugeOptions, path: Path) -> tuple[Real, str]:
    if options.minutes:
        return np.full(len(at), options.minutes), "by --gauge-minutes"
    steps = np.unique(np.diff(at[~np.isnat(at)]) / np.timedelta64(60, "s"))
    if len(steps) != 1 or not steps[0] > 0:
        raise BadInput("no time bounds, and times without a regular step", path, "give --gauge-minutes, such as 60")
    return np.full(len(at), float(steps[0])), "the step of its times"


def _check_lengths(minutes: Real, path: Path) -> None:
    known = minutes[np.isfinite(minutes)]
    if not len(known) or known.min() <= 0 or known.max() > MOST_MINUTES:
        raise BadInput("time bounds that are no intervals", path, "write the start before the end, at most a month")


def _as_mm(values: Real, minutes: Real, name: str, attributes: Any, path: Path) -> tuple[Real, list[str]]:
    units = " ".join(str(attributes.get("units", "")).lower().replace("**", "").replace("^", "").split())
    if units in _MM:
        return values * _MM[units], []
    found = _RATE.fullmatch(units)
    if found and found[1].strip() in _MM:
        factor = _MM[found[1].strip()] * _PER_HOUR[found[2]]
        return values * factor * minutes / 60, []
    words = {name.lower(), str(attributes.get("standard_name", "")).lower()}
    if not units and words & _CANONICAL:
        return values, [f"{name} has no units: taken as mm, the unit of this CF name"]
    raise BadInput(
        f"{name} has units {shown(units)}" if units else f"{name} has no units", path, "write mm, or a rate in mm/h"
    )


def _coordinate(content: Any, station: str | None, kind: str, number: int, path: Path) -> Real:
    for name, variable in content.variables.items():
        if place_of(content, str(name), kind) and set(variable.dims) <= {station}:
            values = np.broadcast_to(decoded(np.asarray(variable.values), variable.attrs), (number,))
            limit = 90 if kind == "latitude" else 360
            if np.isfinite(values).all() and np.abs(values).max() <= limit:
                return np.asarray(values, np.float64)
            raise BadInput(f"a {kind} that is none", path, "write degrees north and east for every station")
    raise BadInput(f"no {kind} of the stations", path, _FIX)


def _names(content: Any, station: str | None, number: int, path: Path) -> list[str]:
    """Return the names of the stations: those with cf_role timeseries_id, else the coordinate of the dimension."""
    by_role = [v for v in content.variables.values() if v.attrs.get("cf_role") == "timeseries_id"]
    own = [content.variables[station]] if station in content.variables else []
    for variable in [*by_role, *own]:
        values = np.asarray(variable.values)
        if values.dtype.kind == "S" and values.ndim == 2:  # characters
            values = np.array([b"".join(row) for row in values])
        flat = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.ravel().tolist()]
        flat = [text.strip(" \x00") for text in flat]
        if len(flat) == number:
            if len(set(flat)) < number or not all(text and text.isprintable() for text in flat):
                raise BadInput("stations without a name of their own", path, "give every station another name")
            return flat
    return [path.stem] if number == 1 else [f"{path.stem} {i}" for i in range(number)]
