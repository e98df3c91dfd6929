"""Find and decode the time axis of a variable: CF references, text, and numbers such as 202006011200."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.cf_values import decoded, decoded_times
from polarcast.data.ingest.event import Times

_NAMES = frozenset({"time", "times", "t", "valid_time", "validtime", "datetime", "date_time", "timestamp", "xtime"})
_FORECAST = frozenset({"forecast_reference_time", "forecast_period"})
_LEADS = frozenset({"lead_time", "leadtime", "lead", "lead_times", "forecast_time", "forecast_period", "step", "fcst"})
_DIGITS = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})?(\d{2})?(\d{2})?")
_UTC = re.compile(r"\s*(?:Etc/)?(?:UTC|GMT|UCT)$", re.IGNORECASE)
_EARLIEST, _LATEST = np.datetime64("1900-01-01", "s"), np.datetime64("2100-01-01", "s")
_UNITS_FIX = "write units such as 'minutes since 2020-06-01T12:00:00Z'"
_TEXT_FIX = "write it in UTC as 2020-06-01T12:00:00"


def time_variables(content: Any, dims: tuple[Any, ...]) -> list[Any]:
    """Return the times over one of some axes, or of the whole file; the most likely first.

    Args:
        content: xarray dataset, opened with `decode_times=False`.
        dims: Axes of the variable.
    """
    found = [v for name, v in content.variables.items() if is_time(str(name), v) and _fits(v, dims)]
    names = {id(v): str(name) for name, v in content.variables.items()}
    return sorted(found, key=lambda v: _preference(names[id(v)], v))


def is_lead_time(content: Any, dim: str) -> bool:
    """Whether an axis counts the time since the start of a forecast."""
    attributes = content.variables[dim].attrs if dim in content.variables else {}
    return dim.lower() in _LEADS or str(attributes.get("standard_name", "")).lower() in _FORECAST


def times_of(variable: Any, path: Path) -> Times:
    """Return the times of a variable in UTC, datetime64[s]; NaT where there is none, or before 1900 or after 2100.

    Raises:
        BadInput: See `cf_values.decoded_times`; also if the numbers have no reference, or the text is no time.
    """
    values, units = np.asarray(variable.values), str(variable.attrs.get("units", "")).strip()
    if values.dtype.kind in "SUO":
        return from_text(values, path)
    if values.dtype.kind == "M":
        return plausible(values)
    if "since" in units.lower():
        numbers = decoded(values, variable.attrs)
        exact = decoded_times(numbers, units, str(variable.attrs.get("calendar", "")), path, values.dtype)
        return _nearest_second(exact)
    if values.dtype.kind in "iu" and all(len(str(v)) in (12, 14) for v in values.ravel().tolist()):
        return from_text(values.astype(str), path)
    raise BadInput(f"time has units {shown(units)}" if units else "time has no units", path, _UNITS_FIX)


def from_text(values: npt.NDArray[Any], path: Path) -> Times:
    """Return times that are written as text: ISO 8601, or yyyymmddHHMM with or without seconds."""
    found = [_from_text(v.decode() if isinstance(v, bytes) else str(v), path) for v in values.ravel().tolist()]
    return plausible(np.array(found, "datetime64[s]").reshape(values.shape))


def plausible(times: npt.NDArray[Any]) -> Times:
    """Return times in whole seconds, NaT before 1900 and after 2100."""
    out = _nearest_second(times.astype("datetime64[ms]"))
    return np.where((out >= _EARLIEST) & (out < _LATEST), out, np.datetime64("NaT", "s"))


def _nearest_second(times: npt.NDArray[Any]) -> Times:
    """Round to seconds: 12.0833 hours are 12:05:00, not 12:04:59."""
    shifted = times.astype("datetime64[ms]") + np.timedelta64(500, "ms")
    return shifted.astype("datetime64[s]")


def _from_text(text: str, path: Path) -> np.datetime64:
    plain = text.strip().strip("\x00")
    if plain.lower() in ("", "nat", "nan"):
        return np.datetime64("NaT", "s")
    try:
        if digits := _DIGITS.fullmatch(plain):
            year, month, day, hour, minute, second = (int(part or 0) for part in digits.groups())
            return np.datetime64(datetime(year, month, day, hour, minute, second).isoformat(), "s")
        moment = datetime.fromisoformat(_UTC.sub("", plain.replace("_", "T", 1)).replace(",", "."))
    except ValueError:
        raise BadInput(f"the time {shown(plain)} can't be read", path, _TEXT_FIX) from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment.isoformat(), "s")


def is_time(name: str, variable: Any) -> bool:
    """Whether a variable holds times by its names, axis, units or type; bounds and times of forecasts do not."""
    standard = str(variable.attrs.get("standard_name", "")).lower()
    if standard in _FORECAST or "bnds" in name.lower() or "bounds" in name.lower():
        return False
    is_called = name.lower() in _NAMES or standard == "time" or str(variable.attrs.get("axis", "")).upper() == "T"
    is_counted = "since" in str(variable.attrs.get("units", "")).lower().split()
    return is_called or is_counted or variable.dtype.kind == "M"


def _fits(variable: Any, dims: tuple[Any, ...]) -> bool:
    return variable.ndim == 0 or (variable.ndim == 1 and (variable.dims[0] in dims or variable.size == 1))


def _preference(name: str, variable: Any) -> tuple[bool, bool, bool]:
    standard = str(variable.attrs.get("standard_name", "")).lower()
    is_axis = variable.ndim == 1 and variable.dims[0] == name
    return not is_axis, variable.ndim == 0, not (standard == "time" or name.lower() in _NAMES)
