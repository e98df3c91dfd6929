"""What polar and gridded ODIM HDF5 files share: groups, attributes, texts, numbers, times, and the coding of values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, shown

_NO_TIME = np.datetime64("NaT", "ms")


@dataclass(frozen=True)
class OdimCoding:
    """How stored values are read: value = gain · stored + offset (ODIM 2.4, table 14).

    Attributes:
        gain, offset: Packing; gain is not 0.
        nodata: Stored code of what was not observed; None if there is none.
        undetect: Stored code of what was observed and has no echo; None if there is none.
    """

    gain: float
    offset: float
    nodata: float | None
    undetect: float | None

    @property
    def has_one_code(self) -> bool:
        """Whether no data and no echo have the same code."""
        if self.nodata is None or self.undetect is None:
            return False
        return self.nodata == self.undetect or bool(np.isnan(self.nodata) and np.isnan(self.undetect))


def numbered_groups(group: Any, prefix: str) -> Iterator[str]:
    """Yield the names `prefix1`, `prefix2`, … of the groups in a group, in the order of their numbers."""
    numbers = [name.removeprefix(prefix) for name in group if name.startswith(prefix)]
    names = (f"{prefix}{number}" for number in sorted(filter(str.isdigit, numbers), key=int))
    yield from (name for name in names if hasattr(group[name], "keys"))


def attributes_of(group: Any, name: str) -> dict[str, Any]:
    """Return the attributes of a subgroup, such as `what`, that have a value; none if it is missing."""
    found = group[name].attrs.items() if name in group else ()
    return {key: value for key, value in found if np.size(value) and type(value).__name__ != "Empty"}


def merged(places: Sequence[Any], kind: str) -> dict[str, Any]:
    """Return the attributes of a subgroup of several levels; those of the last, nearest to the data, come first.

    The model lets attributes stand at the highest level for which they hold (ODIM 2.4, section 3).
    """
    return {key: value for place in places for key, value in attributes_of(place, kind).items()}


def text_of(value: Any) -> str:
    """Return an attribute as text; it may be missing, bytes, text, or an array of either."""
    first = np.ravel(np.asarray("" if value is None else value))
    one = first[0] if len(first) else ""
    return (one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)).strip("\0 ")


def number_of(attributes: Mapping[str, Any], name: str) -> float | None:
    """Return an attribute as a number, which some programs write as text; None if it is missing.

    Raises:
        BadInput: It is no number.
    """
    if name not in attributes:
        return None
    try:
        return float(text_of(attributes[name]))
    except ValueError:
        raise BadInput(f"{name} is {shown(text_of(attributes[name]))}", fix="write it as a number") from None


def coding_of(what: Mapping[str, Any], dtype: np.dtype[Any]) -> OdimCoding:
    """Return how values are read by the attributes of `what`.

    Raises:
        BadInput: They are not numbers, the gain is 0, or integers have no gain or offset. The model requires both;
            floating-point values without them are read as they are.
    """
    gain, offset, nodata, undetect = (number_of(what, name) for name in ("gain", "offset", "nodata", "undetect"))
    missing = [f"what/{name}" for name, value in (("gain", gain), ("offset", offset)) if value is None]
    if missing and dtype.kind != "f":
        raise BadInput(f"integers without {' and '.join(missing)}", fix="write gain and offset")
    gain, offset = 1.0 if gain is None else gain, 0.0 if offset is None else offset
    if gain == 0 or not np.isfinite([gain, offset]).all():
        raise BadInput(f"gain {gain:g} and offset {offset:g} (what/gain, what/offset)", fix="write those of the values")
    return OdimCoding(gain, offset, nodata, undetect)


def clock(date: Any, time: Any) -> np.datetime64:
    """Return a date YYYYMMDD and time HHmmSS; second 60, a leap second, is the next minute's first.

    NaT if they are none, or lie before 1980 or after 2100: programs write 1970 for an unknown time.
    """
    day, at = (re.sub(r"[-:/\s]|\.\d*$|[zZ]$", "", text_of(value)) for value in (date, time))
    at = at.zfill(6) if np.asarray(time).dtype.kind in "iuf" else at
    if len(day) != 8 or len(at) not in (4, 6) or not (day + at).isdigit():
        return _NO_TIME
    hours, minutes, seconds = (int(at[i : i + 2] or 0) for i in (0, 2, 4))
    if not 1980 <= int(day[:4]) <= 2100 or hours > 23 or minutes > 59 or seconds > 60:
        return _NO_TIME
    try:
        start = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "ms")
    except ValueError:
        return _NO_TIME
    return start + np.timedelta64(3600 * hours + 60 * minutes + seconds, "s")
