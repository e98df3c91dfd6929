"""Identify the quantity of a gridded sequence by its units and names."""

import re
from pathlib import Path

from polarcast.data.errors import BadInput

_DBZ_NAMES = frozenset({"equivalent_reflectivity_factor", "reflectivity", "dbz", "dbzh", "zh", "th"})
_RAIN_NAMES = frozenset(
    {"rainfall_rate", "lwe_precipitation_rate", "precipitation_flux", "rainfall_flux", "precipitation_rate",
     "rain_rate", "rainrate", "rr", "preciprate", "precip_rate", "precipitation"}
)  # fmt: skip
"""CF standard names and other common variable names, in lower case."""

RAIN = "rain_rate"
_DBZ = ("dbz", "dbze", "dbz(e)", "mm6 m-3", "mm6/m3", "mm6m-3")
_UNIT = r"(s|sec|second|min|minute|h|hr|hour|d|day)s?"
_RAIN = re.compile(rf"(mm|kg ?m-2|kg/m2)(?: ?(?:/|per|in) ?(\d+(?:\.\d+)?)? ?{_UNIT}| ?{_UNIT} ?-1)")
_SPEED = re.compile(r"m ?(?:/ ?s|s ?-1)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def quantity_of(units: str, where: Path | str = "", *, named_rain: bool = False) -> tuple[str, float]:
    """Return (`zh`, 1) or (`rain_rate`, factor to mm/h) for units.

    Args:
        units: Units as in the file, such as `dBZ`, `mm/h`, `mm per 5 min`, `kg m-2 s-1`.
        where: Location for the error message.
        named_rain: Whether the variable has a rain name; then m/s is a rain rate (the unit of CF's `rainfall_rate`) and
            not a wind speed.

    Raises:
        BadInput: The units are missing, or are neither those of reflectivity nor of a rain rate.
    """
    plain = _plain(units)
    if plain in _DBZ:
        return "zh", 1.0
    if found := _RAIN.fullmatch(plain):
        number, unit = float(found[2] or 1), found[3] or found[4]
        if number > 0:
            return RAIN, 3600 / (number * _SECONDS[unit[0]])
    if named_rain and _SPEED.fullmatch(plain):
        return RAIN, 3.6e6
    what = f"units {units!r}" if plain else "no units"
    if plain in ("mm", "kg m-2"):
        what += " have no accumulation time"
    raise BadInput(what, where, "give the units, for example --units dBZ, mm/h, 'mm per 5 min'")


def is_amount(units: str) -> bool:
    """Whether units are those of an amount of rain without its time, or none at all."""
    return _plain(units) in ("", "mm", "kg m-2", "kg/m2")


def minutes_of_sum(units: str) -> float | None:
    """Return the minutes over which sums in units such as `mm per 5 min` add up; None for others, such as mm/h."""
    found = _RAIN.fullmatch(_plain(units))
    return float(found[2]) * _SECONDS[found[3][0]] / 60 if found and found[2] else None


def is_quantity(units: str, *, named_rain: bool = False) -> bool:
    """Whether units are those of reflectivity or a rain rate."""
    try:
        quantity_of(units, named_rain=named_rain)
    except BadInput:
        return False
    return True


def is_rain_name(*names: str) -> bool:
    """Whether any of a variable's names is a rain name."""
    return any(name.lower() in _RAIN_NAMES for name in names)


def is_known_name(*names: str) -> bool:
    """Whether any of a variable's names is a reflectivity or rain name."""
    return any(name.lower() in _RAIN_NAMES | _DBZ_NAMES for name in names)


def _plain(units: str) -> str:
    return " ".join(units.lower().replace("**", "").replace("^", "").replace("mm.", "mm ").split())
