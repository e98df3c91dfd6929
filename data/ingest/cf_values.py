"""Decode stored values and times by the CF conventions: packing, missing data, valid ranges, references of time.

xarray decodes `_FillValue`, `missing_value` and packing. It ignores `valid_min`, `valid_max` and `valid_range`, the
sign of `missing_value` under `_Unsigned`, and time zones by name. What it ignores would be read as heavy rain.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.event import Times

Real = npt.NDArray[np.float64]
PACKING = ("scale_factor", "add_offset")
_PROLEPTIC = "proleptic_gregorian"
_GREGORIAN = ("", "standard", "gregorian", _PROLEPTIC, "utc", "none")
_UNITS = {
    "milliseconds": 1e-3, "millisecond": 1e-3, "msec": 1e-3, "ms": 1e-3, "seconds": 1.0, "second": 1.0, "secs": 1.0,
    "sec": 1.0, "s": 1.0, "minutes": 60.0, "minute": 60.0, "mins": 60.0, "min": 60.0, "hours": 3600.0, "hour": 3600.0,
    "hrs": 3600.0, "hr": 3600.0, "h": 3600.0, "days": 86400.0, "day": 86400.0, "d": 86400.0,
}  # fmt: skip
_SINCE = re.compile(r"\s*(\w+)\s+since\s+(\d{1,4})-(\d{1,2})-(\d{1,2})(?:[T\s]+(.*))?", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}(?:\.\d+)?))?)?\s*(.*)")
_OFFSET = re.compile(r"([+-])\s*(\d{1,2}):?(\d{2})?")
_UTC = ("", "z", "utc", "gmt")
_LATEST_S = 4102444800.0
"""2100-01-01; the times of radar data lie between 1900 and then."""
_EARLIEST_S = -2208988800.0


def decoded(stored: npt.NDArray[Any], attributes: Mapping[str, Any]) -> Real:
    """Return the values of a variable, NaN where they are missing.

    Args:
        stored: Stored numbers of any shape.
        attributes: Attributes of the variable: `_FillValue`, `missing_value`, `valid_min`, `valid_max`, `valid_range`,
            `_Unsigned`, `scale_factor`, `add_offset` (CF 1.11, sections 2.5.1 and 8.1).
    """
    raw = _with_sign(np.asarray(stored), attributes)
    values = raw.astype(np.float64) * _number(attributes, "scale_factor", 1.0) + _number(attributes, "add_offset", 0.0)
    is_missing = _is_missing(raw, stored.dtype, attributes) | _is_invalid(raw, values, attributes)
    return np.where(is_missing, np.nan, values).astype(np.float64)


def _with_sign(stored: npt.NDArray[Any], attributes: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Return the numbers as unsigned or signed, if `_Unsigned` tells it: netCDF-3 has no unsigned types."""
    sign = {"true": "u", "1": "u", "false": "i", "0": "i"}.get(str(attributes.get("_Unsigned", "")).lower())
    if sign is None or stored.dtype.kind not in "iu":
        return stored
    return stored.view(np.dtype(f"{stored.dtype.byteorder}{sign}{stored.dtype.itemsize}"))


def _is_missing(raw: npt.NDArray[Any], dtype: np.dtype[Any], attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Compare with the codes for missing data, which are given in the stored type or the one that `_Unsigned` makes."""
    missing = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, np.bool_)
    for name in ("_FillValue", "missing_value"):
        for code in np.ravel(np.asarray(attributes.get(name, []))):
            missing |= _equals(raw, code, dtype)
    return missing


def _equals(raw: npt.NDArray[Any], code: Any, dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    number = _as_float(code)
    if raw.dtype != dtype and raw.dtype.kind == "u" and number.is_integer():
        number %= 2 ** (8 * raw.dtype.itemsize)  # -1 in the attribute of a signed type is 255 or 65535 in the data
    return equals_code(raw, number)


def equals_code(raw: npt.NDArray[Any], code: Any) -> npt.NDArray[np.bool_]:
    """Compare stored values with a code, in their own type: 1.797e308 equals no float32 and no byte; None, nothing."""
    if code is None:
        return np.zeros(raw.shape, np.bool_)
    number = _as_float(code)
    if raw.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.isnan(raw) if np.isnan(number) else np.asarray(raw == raw.dtype.type(number))
    return np.asarray(raw == number)


def _is_invalid(raw: npt.NDArray[Any], values: Real, attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Compare with the valid range: in stored numbers if its type is theirs, in values if it is wider (CF 2.5.1)."""
    invalid = np.zeros(raw.shape, np.bool_)
    for name, sides in (("valid_min", (0,)), ("valid_max", (1,)), ("valid_range", (0, 1))):
        limits = np.ravel(np.asarray(attributes.get(name, [])))
        if len(limits) != len(sides):
            continue
        is_packed = raw.dtype.kind in "iu" and any(key in attributes for key in PACKING)
        compared = values if is_packed and limits.dtype.kind == "f" else raw
        for side, limit in zip(sides, limits, strict=True):
            bound = _bound(limit, raw, compared)
            invalid |= compared < bound if side == 0 else compared > bound
    return invalid


def _bound(limit: Any, raw: npt.NDArray[Any], compared: npt.NDArray[Any]) -> float:
    bound = _as_float(limit)
    is_signed_code = compared is raw and raw.dtype.kind == "u" and bound < 0
    return bound % 2 ** (8 * raw.dtype.itemsize) if is_signed_code else bound


def _number(attributes: Mapping[str, Any], name: str, default: float) -> float:
    return _as_float(attributes[name]) if name in attributes else default


def _as_float(value: Any) -> float:
    """Return an attribute as a number; some programs write numbers as text."""
    first = np.ravel(np.asarray(value))[0]
    return float(first.decode() if isinstance(first, bytes) else first)


def decoded_times(stored: npt.NDArray[Any], units: str, calendar: str = "", where: Path | str = "") -> Times:
    """Return times in UTC, datetime64[ms]; NaT where missing, or before 1900 or after 2100.

    Args:
        stored: Numbers counted from the reference, of any shape.
        units: Such as `seconds since 2020-06-01T12:00:00Z`; offsets such as `+02:00` are read, names other than UTC are
            not, because they are ambiguous.
        calendar: CF calendar; only the Gregorian one has dates of real radar data.
        where: Location for the error message.

    Raises:
        BadInput: The units, the time zone or the calendar are not known.
    """
    if calendar.strip().lower() not in _GREGORIAN:
        raise BadInput(f"times in the calendar {shown(calendar)}", where, "write times of the standard calendar")
    step, start = reference_of(units, where, calendar)
    seconds = stored.astype(np.float64) * step
    since_1970 = start.astype("datetime64[ms]").astype(np.int64) / 1000 + seconds
    known = np.isfinite(seconds) & (since_1970 >= _EARLIEST_S) & (since_1970 <= _LATEST_S)
    out = np.full(stored.shape, np.datetime64("NaT"), "datetime64[ms]")
    out[known] = np.rint(since_1970[known] * 1000).astype(np.int64).astype("datetime64[ms]")
    return out


def reference_of(units: str, where: Path | str = "", calendar: str = "") -> tuple[float, np.datetime64]:
    """Return the seconds of a unit of time, and its reference in UTC.

    Raises:
        BadInput: See `decoded_times`.
    """
    found = _SINCE.fullmatch(units)
    clock = _CLOCK.fullmatch(found[5].strip()) if found and found[5] else None
    if not found or found[1].lower() not in _UNITS or (found[5] and not clock):
        raise BadInput(f"time in units {shown(units)}", where, "write 'seconds since 2020-06-01T12:00:00Z'")
    date = _day(int(found[2]), int(found[3]), int(found[4]), calendar.strip().lower() != _PROLEPTIC)
    seconds = 0.0
    if clock:
        seconds = 3600 * int(clock[1]) + 60 * int(clock[2] or 0) + float(clock[3] or 0) - _zone_s(clock[4], where)
    return _UNITS[found[1].lower()], date + np.timedelta64(round(1000 * seconds), "ms")


def _day(year: int, month: int, day: int, is_mixed: bool) -> np.datetime64:
    """Return a day; before 15 October 1582 the standard calendar is the Julian one (CF 4.4.1)."""
    date = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}", "ms")
    if not is_mixed or date >= np.datetime64("1582-10-15"):
        return date
    century = (year - (month <= 2)) // 100
    return date + np.timedelta64(century - century // 4 - 2, "D")


def _zone_s(zone: str, where: Path | str) -> float:
    """Return the offset of a time zone from UTC in seconds."""
    name = zone.strip()
    if name.lower() in _UTC:
        return 0.0
    offset = name.lower().removeprefix("utc").removeprefix("gmt").strip()
    found = _OFFSET.fullmatch(offset)
    if not found:
        raise BadInput(f"the time zone {shown(name)} is ambiguous", where, "write the reference in UTC, or as +09:00")
    size = 3600 * int(found[2]) + 60 * int(found[3] or 0)
    return float(size if found[1] == "+" else -size)
