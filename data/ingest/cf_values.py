"""Decode stored values and times by the CF conventions: packing, missing data, valid ranges, references of time.

xarray decodes `_FillValue`, `missing_value` and packing. It ignores `valid_min`, `valid_max` and `valid_range`, the
sign of `missing_value` under `_Unsigned`, and time zones by name. What it ignores would be read as heavy rain.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
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
_OFF_CODE = 0.01
"""Rounding of a packed code."""
_USUAL_CODE, _FAR_MORE = 90.0, 10
_TYPED = re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?[fFbBsS]")
"""A number as the notation of netCDF writes it, such as -999.f."""
_UNITS = {
    "nanoseconds": 1e-9, "nanosecond": 1e-9, "nsec": 1e-9, "ns": 1e-9, "microseconds": 1e-6, "microsecond": 1e-6,
    "usec": 1e-6, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "millis": 1e-3, "millisec": 1e-3, "millisecs": 1e-3,
    "msecs": 1e-3,
    "milliseconds": 1e-3, "millisecond": 1e-3, "msec": 1e-3, "ms": 1e-3, "seconds": 1.0, "second": 1.0, "secs": 1.0,
    "sec": 1.0, "s": 1.0, "minutes": 60.0, "minute": 60.0, "mins": 60.0, "min": 60.0, "hours": 3600.0, "hour": 3600.0,
    "hrs": 3600.0, "hr": 3600.0, "h": 3600.0, "days": 86400.0, "day": 86400.0, "d": 86400.0,
}  # fmt: skip
_SINCE = re.compile(
    r"\s*(\w+)\s+since\s+(?:(\d{1,4})([-/])(\d{1,2})\3(\d{1,2})|(\d{4})(\d{2})(\d{2}))(?:[T\s]+(.*))?\s*", re.IGNORECASE
)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}(?:[.,]\d*)?))?)?\s*(?!\d)(.*)")
_BASIC_CLOCK = re.compile(r"(\d{2})(\d{2})(?:(\d{2}(?:[.,]\d*)?))?\s*(?!\d)(.*)")
_OFFSET = re.compile(r"([+-])\s*(\d{1,2}):?(\d{2})?")
_UTC = ("", "z", "utc", "gmt", "uct", "zulu", "universal", "etc/utc", "etc/gmt", "etc/uct", "(utc)", "(gmt)", "utc0")
_LATEST_S = 4102444800.0
"""2100-01-01; the times of radar data lie between 1900 and then."""
_LEAST_FILL = 1e30
"""Times beyond are the fill value of netCDF, 9.97e36, or one of another program, that the file does not declare."""
_EARLIEST_S = -2208988800.0
_MOST_COARSE_S = 2.0


def decoded(stored: npt.NDArray[Any], attributes: Mapping[str, Any]) -> Real:
    """Return the values of a variable, NaN where they are missing or undetected.

    Args:
        stored: Stored numbers of any shape.
        attributes: Attributes of the variable: `_FillValue`, `missing_value`, `valid_min`, `valid_max`, `valid_range`,
            `_Unsigned`, `scale_factor`, `add_offset` (CF 1.11, sections 2.5.1 and 8.1), and `_Undetect` (WMO FM 301).
            Numbers may be text.

    Raises:
        BadInput: The packing is no number.
    """
    raw = _with_sign(np.asarray(stored), attributes)
    packing = _packing(attributes)
    values = raw.astype(np.float64) * packing[0] + packing[1]
    is_missing = _is_missing(raw, stored.dtype, attributes) | _is_invalid(raw, values, attributes)
    for code in undetect_codes(attributes):
        is_missing |= _equals(raw, code, stored.dtype)
    return np.where(is_missing, np.nan, values).astype(np.float64)


def is_undetected(stored: npt.NDArray[Any], attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Return where the stored numbers are the code of `_Undetect`: the radar saw the gate, and there is no echo."""
    raw = _with_sign(np.asarray(stored), attributes)
    found = np.zeros(raw.shape, np.bool_)
    for code in undetect_codes(attributes):
        found |= _equals(raw, code, stored.dtype)
    return found


def undetect_codes(attributes: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the stored codes of no echo: `_Undetect` (WMO FM 301), or `undetect` (ODIM), in any case of letters."""
    names = [name for name in attributes if name.lower() in ("_undetect", "undetect")]
    return tuple(code for name in names for code in _numbers(attributes[name]))


def _with_sign(stored: npt.NDArray[Any], attributes: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Return the numbers as unsigned or signed, if `_Unsigned` tells it: netCDF-3 has no unsigned types."""
    sign = {"true": "u", "1": "u", "false": "i", "0": "i"}.get(str(attributes.get("_Unsigned", "")).lower())
    if sign is None or stored.dtype.kind not in "iu":
        return stored
    return stored.view(np.dtype(f"{stored.dtype.byteorder}{sign}{stored.dtype.itemsize}"))


def _is_missing(raw: npt.NDArray[Any], dtype: np.dtype[Any], attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Compare with the codes for missing data, in the stored type or the one that `_Unsigned` makes, or unpacked."""
    missing = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, np.bool_)
    for name in ("_FillValue", "missing_value"):
        given = attributes.get(name, [])
        of_stored_type = np.asarray(given).dtype == dtype
        for code in _numbers(given):
            packed = None if of_stored_type else _packed(code, raw, attributes)
            missing |= _equals(raw, code, dtype) if packed is None else np.asarray(raw == packed)
    return missing


def _packed(code: float, raw: npt.NDArray[Any], attributes: Mapping[str, Any]) -> int | None:
    """Return the stored number of a code that a file gives unpacked, as −999 dBZ of bytes; None if it gives it packed.

    CF demands packed codes. A code of another type is unpacked where it is no number of the stored type. One that is,
    as −99 or more, is unpacked where far more values have it so.
    """
    scale, offset = _packing(attributes)
    if raw.dtype.kind not in "iu" or not scale or (scale, offset) == (1.0, 0.0) or not np.isfinite(code):
        return None
    limits, packed = np.iinfo(raw.dtype), (code - offset) / scale
    if abs(packed - round(packed)) > _OFF_CODE or not limits.min <= round(packed) <= limits.max:
        return None
    packed = round(packed)
    if not code.is_integer() or not limits.min <= code <= limits.max:
        return packed
    is_usual = abs(code) >= _USUAL_CODE and (raw == packed).sum() > _FAR_MORE * (raw == code).sum()
    return packed if is_usual else None


def _equals(raw: npt.NDArray[Any], code: Any, dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    number = float(code)
    if raw.dtype != dtype and raw.dtype.kind == "u" and number.is_integer():
        number %= 2 ** (8 * raw.dtype.itemsize)  # -1 in the attribute of a signed type is 255 or 65535 in the data
    return equals_code(raw, number)


def equals_code(raw: npt.NDArray[Any], code: Any) -> npt.NDArray[np.bool_]:
    """Compare stored values with a code, in their own type: 1.797e308 equals no float32 and no byte; None, nothing."""
    if code is None:
        return np.zeros(raw.shape, np.bool_)
    numbers = _numbers(code)
    if not numbers:
        raise BadInput(f"the code {shown(code)} is no number", fix="write it as one")
    number = numbers[0]
    if raw.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.isnan(raw) if np.isnan(number) else np.asarray(raw == raw.dtype.type(number))
    return np.asarray(raw == number)


def _is_invalid(raw: npt.NDArray[Any], values: Real, attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Compare with the valid range: in stored numbers if its type is theirs, in values if it is wider (CF 2.5.1)."""
    invalid = np.zeros(raw.shape, np.bool_)
    for name, sides in (("valid_min", (0,)), ("valid_max", (1,)), ("valid_range", (0, 1))):
        given = attributes.get(name, [])
        limits = _numbers(given)
        if len(limits) != len(sides):
            continue
        is_packed = raw.dtype.kind in "iu" and any(key in attributes for key in PACKING)
        compared = values if is_packed and np.asarray(given).dtype.kind not in "iu" else raw
        for side, limit in zip(sides, limits, strict=True):
            bound = _bound(limit, raw, compared)
            invalid |= compared < bound if side == 0 else compared > bound
    return invalid


def _bound(bound: float, raw: npt.NDArray[Any], compared: npt.NDArray[Any]) -> float:
    is_signed_code = compared is raw and raw.dtype.kind == "u" and bound < 0
    return bound % 2 ** (8 * raw.dtype.itemsize) if is_signed_code else bound


def _packing(attributes: Mapping[str, Any]) -> tuple[float, float]:
    """Return the scale and the offset. Raises BadInput if one is given and no number."""
    found = []
    for name, default in zip(PACKING, (1.0, 0.0), strict=True):
        given = attributes.get(name, default)
        numbers = _numbers(given)
        if not numbers and np.asarray(given).size and str(np.ravel(np.asarray(given))[0]).strip():
            raise BadInput(f"{name} is {shown(str(given))}", fix="write it as a number")
        found.append(numbers[0] if numbers else default)
    return found[0], found[1]


def _numbers(given: Any) -> list[float]:
    """Return an attribute as numbers: they may be text, such as "-999" or "0, 254". What is no number is left out."""
    out = []
    for item in np.ravel(np.asarray(given)).tolist():
        text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for part in re.split(r"[\s,;]+", text.strip("[]() \0")):
            with suppress(ValueError):
                out.append(float(part.rstrip("fFbBsS") if _TYPED.fullmatch(part) else part))
    return out


def decoded_times(
    stored: npt.NDArray[Any], units: str, calendar: str = "", where: Path | str = "", dtype: npt.DTypeLike = np.float64
) -> Times:
    """Return times in UTC, datetime64[ms]; NaT where missing, or before 1900 or after 2100.

    Args:
        stored: Numbers counted from the reference, of any shape.
        units: Such as `seconds since 2020-06-01T12:00:00Z`; offsets such as `+02:00` are read, names other than UTC are
            not, because they are ambiguous.
        calendar: CF calendar; only the Gregorian one has dates of real radar data.
        where: Location for the error message.
        dtype: Type that the file stores the numbers in.

    Raises:
        BadInput: The units, the time zone or the calendar are not known, or the type is too coarse.
    """
    if calendar.strip().lower() not in _GREGORIAN:
        raise BadInput(f"times in the calendar {shown(calendar)}", where, "write times of the standard calendar")
    step, start = reference_of(units, where, calendar)
    stored = without_fill(stored)
    if (coarse := coarse_s(stored, dtype, step)) > _MOST_COARSE_S:
        fix = "write them in float64, or since a later reference"
        raise BadInput(f"times in {np.dtype(dtype).name} to {coarse:.0f} s only", where, fix)
    seconds = stored.astype(np.float64) * step
    since_1970 = start.astype("datetime64[ms]").astype(np.int64) / 1000 + seconds
    known = np.isfinite(seconds) & (since_1970 >= _EARLIEST_S) & (since_1970 <= _LATEST_S)
    out = np.full(stored.shape, np.datetime64("NaT"), "datetime64[ms]")
    out[known] = np.rint(since_1970[known] * 1000).astype(np.int64).astype("datetime64[ms]")
    return out


def without_fill(stored: npt.NDArray[Any]) -> Real:
    """Return times as numbers, NaN where they are a fill value that the file does not declare."""
    numbers = stored.astype(np.float64)
    return np.where(np.abs(numbers) < _LEAST_FILL, numbers, np.nan)


def coarse_s(stored: npt.NDArray[Any], dtype: npt.DTypeLike, step_s: float) -> float:
    """Return the distance in seconds of the times that a type of floating point can store; 0 for other types.

    Whole numbers are exact as long as the type has halves too: an hour since 1900 in float32.
    """
    finite = np.abs(stored[np.isfinite(stored)])
    if np.dtype(dtype).kind != "f" or not finite.size:
        return 0.0
    spacing = float(np.spacing(np.asarray(finite.max(), dtype)))
    are_whole = spacing <= 1 / 2 and bool((finite == np.rint(finite)).all())
    return 0.0 if are_whole else spacing * step_s


def reference_of(units: str, where: Path | str = "", calendar: str = "") -> tuple[float, np.datetime64]:
    """Return the seconds of a unit of time, and its reference in UTC.

    Raises:
        BadInput: See `decoded_times`.
    """
    found = _SINCE.fullmatch(units)
    text = (found[9] or "").strip() if found else ""
    clock = _CLOCK.fullmatch(text) or _BASIC_CLOCK.fullmatch(text)
    if not found or found[1].lower() not in _UNITS or (text and not clock):
        raise BadInput(f"time in units {shown(units)}", where, "write 'seconds since 2020-06-01T12:00:00Z'")
    year, month, day = (int(part) for part in (found.group(2, 4, 5) if found[2] else found.group(6, 7, 8)))
    try:
        date = _day(year, month, day, calendar.strip().lower() != _PROLEPTIC)
    except ValueError:
        raise BadInput(f"time in units {shown(units)}: no such day", where, "correct the reference") from None
    seconds = 0.0
    if clock:
        of_day = 3600 * int(clock[1]) + 60 * int(clock[2] or 0) + float((clock[3] or "0").replace(",", "."))
        seconds = of_day - _zone_s(clock[4], where)
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
