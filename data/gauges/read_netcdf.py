"""Read gauges from NetCDF files of the CF feature type timeSeries: intervals, units, places and names of stations."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, shown
from polarcast.data.gauges.gauge import Gauge, Real, Times
from polarcast.data.gauges.options import END, INCH_MM, MOST_MINUTES, GaugeData, GaugeOptions
from polarcast.data.gauges.time_series import FIX, Numbers, TimeSeries, time_series
from polarcast.data.ingest.cf_values import decoded
from polarcast.data.ingest.grids.axes import place_of
from polarcast.data.ingest.grids.frames import open_dataset, read_errors_as_bad_input
from polarcast.data.ingest.grids.times import times_of

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
SUM, MEAN, POINT = "sum", "mean", "point"
_CELL_METHOD = re.compile(r"(?:^|[\s:])time\s*:\s*(?:\w+\s*:\s*)*(\w+)")


def read_netcdf(path: Path, options: GaugeOptions) -> GaugeData:
    """Read the gauges of a file, in order of station.

    Args:
        path: NetCDF file, with one rain variable of stations in any form of CF, see `time_series`. Time bounds give the
            intervals. Without them, intervals have the length of the regular step of the times, or of
            `options.minutes`.
        options: What the file does not say. CF times without offset are UTC, so `time_zone` is not used.

    Returns:
        Gauges, and a line for each assumption.

    Raises:
        BadInput: The file can't be read, has damaged ragged arrays, no places, several rain variables, unknown units,
            or values that are no amounts by their cell methods.
    """
    with read_errors_as_bad_input(path, "file of gauges"), open_dataset(path) as content:
        name = _rain_variable(content, path)
        array = content[name]
        series = time_series(content, array, path)
        ends, minutes, lines = _intervals(content, series, options, path)
        mm, said = _as_mm(series.values, minutes[series.of_time], name, array.attrs, path)
        number, station = series.stations, series.station
        latitude, longitude = (_coordinate(content, station, kind, number, path) for kind in ("latitude", "longitude"))
        names = _names(content, station, number, path)
    if options.time_zone is not None:
        lines = [*lines, "its times are UTC, as CF has it: the time zone is not used"]
    known = (~np.isnat(ends) & np.isfinite(minutes))[series.of_time]
    order = np.argsort(np.where(known, series.of_station, number), kind="stable")
    stops = np.searchsorted(series.of_station[order[: known.sum()]], np.arange(number + 1))
    gauges = []
    for i, (who, lat, lon) in enumerate(zip(names, latitude, longitude, strict=True)):
        own = order[stops[i] : stops[i + 1]]
        at = series.of_time[own]
        gauges.append(Gauge.of(who, float(lat), float(lon), ends[at], minutes[at], mm[own]))
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


def _intervals(content: Any, series: TimeSeries, options: GaugeOptions, path: Path) -> tuple[Times, Real, list[str]]:
    """Return the ends of the intervals of all times, flattened, their lengths in minutes, and what was assumed."""
    times = series.times
    bounds = str(times.attrs.get("bounds", ""))
    if bounds and bounds in content.variables:
        variable = content.variables[bounds]
        corners = [d for d in variable.dims if d not in times.dims]
        if len(corners) != 1 or set(variable.dims) != {*times.dims, *corners} or variable.sizes[corners[0]] != 2:
            raise BadInput(f"time bounds of shape {variable.shape}", path, "write a start and an end for each time")
        given = {k: v for k, v in times.attrs.items() if k in ("units", "calendar")}
        turned = variable.transpose(*times.dims, *corners).copy(deep=False)
        edges = times_of(turned._replace(attrs={**given, **variable.attrs}), path).reshape(-1, 2)
        minutes = np.diff(edges, axis=1)[:, 0] / np.timedelta64(60, "s")
        _check_lengths(minutes, path)
        return edges[:, 1], minutes, []
    at = times_of(times, path).ravel()
    minutes, how = _step(at, series.station_of_time, options, path)
    mark = "end" if options.mark == END else "begin"
    ends = at if options.mark == END else at + np.rint(60 * minutes).astype("timedelta64[s]")
    lengths = " and ".join(f"{m:g}" for m in np.unique(minutes).tolist())
    return ends, minutes, [f"no time bounds: intervals of {lengths} min, {how}, that {mark} at its times"]


def _step(at: Times, station: Numbers, options: GaugeOptions, path: Path) -> tuple[Real, str]:
    """Return the length of the intervals in minutes, (m,): the regular step of each station."""
    if options.minutes:
        return np.full(len(at), options.minutes), "by --gauge-minutes"
    out = np.zeros(len(at))
    order = np.lexsort((at, station))
    order = order[~np.isnat(at[order])]
    for own in np.split(order, np.flatnonzero(np.diff(station[order])) + 1):
        steps = np.unique(np.diff(at[own]) / np.timedelta64(60, "s"))
        if len(steps) != 1 or not 0 < steps[0] <= MOST_MINUTES:
            raise BadInput("no time bounds, and times without a regular step", path, "give --gauge-minutes, such as 60")
        out[own] = steps[0]
    return np.where(out > 0, out, out.max()), "the step of its times"


def _check_lengths(minutes: Real, path: Path) -> None:
    known = minutes[np.isfinite(minutes)]
    if not len(known) or known.min() <= 0 or known.max() > MOST_MINUTES:
        raise BadInput("time bounds that are no intervals", path, "write the start before the end, at most a month")


def _as_mm(values: Real, minutes: Real, name: str, attributes: Any, path: Path) -> tuple[Real, list[str]]:
    """Return amounts in mm of values over intervals of some minutes, both (n,), and what was assumed."""
    units = " ".join(str(attributes.get("units", "")).lower().replace("**", "").replace("^", "").split())
    found = _RATE.fullmatch(units)
    is_rate = bool(found and found[1].strip() in _MM)
    method, lines = _method(attributes), []
    if method not in (("", MEAN, POINT) if is_rate else ("", SUM, MEAN, POINT)):
        what = f"{name} is no amount: {'a rate in ' + units if is_rate else 'in ' + units}, time: {method}"
        raise BadInput(what, path, "write the cell_methods time: sum of an amount, or time: mean of a rate")
    if method == POINT or (method == MEAN and not is_rate):
        taken = MEAN if is_rate else SUM
        lines = [f"{name} has the cell_methods time: {method}: taken as the {taken} of its interval"]
    if units in _MM:
        return values * _MM[units], lines
    if found and is_rate:
        factor = _MM[found[1].strip()] * _PER_HOUR[found[2]]
        return values * factor * minutes / 60, lines
    words = {name.lower(), str(attributes.get("standard_name", "")).lower()}
    if not units and words & _CANONICAL:
        return values, [*lines, f"{name} has no units: taken as mm, the unit of this CF name"]
    raise BadInput(
        f"{name} has units {shown(units)}" if units else f"{name} has no units", path, "write mm, or a rate in mm/h"
    )


def _method(attributes: Any) -> str:
    """Return the method along time of CF `cell_methods`, in lower case; empty if it has none."""
    found = _CELL_METHOD.search(str(attributes.get("cell_methods", "")).lower())
    return found[1] if found else ""


def _coordinate(content: Any, station: str | None, kind: str, number: int, path: Path) -> Real:
    for name, variable in content.variables.items():
        if place_of(content, str(name), kind) and set(variable.dims) <= {station}:
            values = np.broadcast_to(decoded(np.asarray(variable.values), variable.attrs), (number,))
            limit = 90 if kind == "latitude" else 360
            if np.isfinite(values).all() and np.abs(values).max() <= limit:
                return np.asarray(values, np.float64)
            raise BadInput(f"a {kind} that is none", path, "write degrees north and east for every station")
    raise BadInput(f"no {kind} of the stations", path, FIX)


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
