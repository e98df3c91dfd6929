"""Convert fields of a sweep to the units of `Sweep`, and drop values that no radar measures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.volumes.volume import Mask, Real

Values = npt.NDArray[np.float32]
Convert = Callable[[Values], Values]

BOUNDS = {
    "zh": (-90.0, 95.0),
    "zdr": (-30.0, 30.0),
    "kdp": (-50.0, 60.0),
    "phidp": (-360.0, 1080.0),
    "rhohv": (0.0, 2.0),
}
"""Least and largest value of each field. What lies beyond is a code for missing data that the file does not declare.
Receivers without a threshold reach −75 dBZ in their first gates. Codes within are found by `codes.undeclared_code`."""


def _same(values: Values) -> Values:
    return values


def _decibels(values: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(values), np.float32)


def _times(factor: float) -> Convert:
    return lambda values: np.asarray(values * np.float32(factor), np.float32)


_TO_DEGREES = _times(180 / np.pi)
_NONE = ("", "none", "n/a", "unknown", "not set")
_RATIO = ("1", "ratio", "unitless", "dimensionless", "-", "linear", "0-1")
_PERCENT = ("%", "percent", "per cent")
UNITS: dict[str, dict[str, Convert]] = {
    "zh": {
        **dict.fromkeys(("dbz", "dbze", "dbz(e)", "db", "decibel", "decibels"), _same),
        **dict.fromkeys(("mm6 m-3", "mm6/m3", "mm6m-3", "mm6 per m3"), _decibels),
    },
    "zdr": {**dict.fromkeys(("db", "decibel", "decibels", "dbz"), _same), **dict.fromkeys(_RATIO, _decibels)},
    "phidp": {
        **dict.fromkeys(("deg", "degs", "degree", "degrees", "°"), _same),
        **dict.fromkeys(("rad", "radian", "radians"), _TO_DEGREES),
    },
    "kdp": {
        **{f"{angle}{per}": _same for angle in ("deg", "degs", "degree", "degrees", "°")
           for per in ("/km", " km-1", "/kilometer", "/kilometre", " per kilometer", " per kilometre", " per km")},
        **{f"{angle}{per}": _TO_DEGREES for angle in ("rad", "radian", "radians")
           for per in ("/km", " km-1", "/kilometer", "/kilometre", " per kilometer", " per kilometre", " per km")},
        **{f"{angle}{per}": _times(1000.0) for angle in ("deg", "degree", "degrees") for per in ("/m", " m-1")},
    },
    "rhohv": {
        **dict.fromkeys(_RATIO, _same), **dict.fromkeys(_PERCENT, _times(0.01)),
    },
}  # fmt: skip
"""Conversion of each field by its units in lower case. Files without units have those of `Sweep`."""


def converted(values: Real, name: str, units: str, where: Path | str = "") -> tuple[Real, Mask]:
    """Return a field in the units of `Sweep`, NaN beyond `BOUNDS`, and where it was beyond.

    Args:
        values: (a, r), NaN where missing.
        name: Field: zh, zdr, kdp, phidp or rhohv.
        units: Units as in the file.
        where: File for the error message.

    Raises:
        BadInput: The units are none of the field's.
    """
    out = convert_of(name, units, where)(values)
    least, most = BOUNDS[name]
    with np.errstate(invalid="ignore"):
        beyond = np.asarray((out < least) | (out > most)) & np.isfinite(values) & np.isfinite(out)
    return np.where(beyond | ~np.isfinite(out), np.float32(np.nan), out).astype(np.float32), beyond


def convert_of(name: str, units: str, where: Path | str = "") -> Convert:
    """Return the function that converts a field from units to those of `Sweep`. Raises BadInput; see `converted`."""
    plain = _plain(units)
    convert = _same if plain in _NONE else UNITS[name].get(plain)
    if convert is None:
        raise BadInput(f"{name.upper()} in units {shown(units)}", where, f"write it in {_EXPECTED[name]}")
    return convert


def is_percent(units: str) -> bool:
    """Whether units are hundredths."""
    return _plain(units) in _PERCENT


def _plain(units: str) -> str:
    return " ".join(units.lower().replace("_", " ").replace("**", "").replace("^", "").split())


_EXPECTED = {"zh": "dBZ", "zdr": "dB", "phidp": "degrees", "kdp": "degrees/km", "rhohv": "a ratio"}
