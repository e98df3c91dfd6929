"""What a gridded sequence holds, told by its units and its names."""

import re
from pathlib import Path

from polarcast.data.errors import BadInput

_DBZ_NAMES = frozenset({"equivalent_reflectivity_factor", "reflectivity", "dbz", "dbzh", "zh", "th"})
_RAIN_NAMES = frozenset(
    {"rainfall_rate", "lwe_precipitation_rate", "precipitation_flux", "rainfall_flux", "precipitation_rate",
     "rain_rate", "rainrate", "rr", "preciprate", "precip_rate", "precipitation"}
)  # fmt: skip
"""Standard names of CF and what else variables are called, in lower case."""

_DBZ = ("dbz", "dbze", "dbz(e)")
_UNIT = r"(s|sec|second|min|minute|h|hr|hour)s?"
_RAIN = re.compile(rf"(mm|kg ?m-2|kg/m2)(?: ?(?:/|per|in) ?(\d+(?:\.\d+)?)? ?{_UNIT}| ?{_UNIT} ?-1)")
_SPEED = re.compile(r"m ?(?:/ ?s|s ?-1)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def quantity_of(units: str, where: Path | str = "", *, named_rain: bool = False) -> tuple[str, float]:
    """(`zh`, 1) or (`rain_rate`, factor to mm/h) of units.

    Args:
        units: As in the file, such as `dBZ`, `mm/h`, `mm per 5 min`, `kg m-2 s-1`.
        where: For the message.
        named_rain: Whether the variable is named as rain: then m/s is a rate (the unit of CF's `rainfall_rate`) and
            not a wind.

    Raises:
        BadInput: neither a reflectivity nor a rain rate, or none given.
    """
    plain = " ".join(units.lower().replace("**", "").replace("^", "").split())
    if plain in _DBZ:
        return "zh", 1.0
    if found := _RAIN.fullmatch(plain):
        number, unit = float(found[2] or 1), found[3] or found[4]
        if number > 0:
            return "rain_rate", 3600 / (number * _SECONDS[unit[0]])
    if named_rain and _SPEED.fullmatch(plain):
        return "rain_rate", 3.6e6
    what = f"units {units!r}" if plain else "no units"
    if plain in ("mm", "kg m-2"):
        what += " do not tell of how long a time"
    raise BadInput(what, where, "say what they are, for example --units dBZ, mm/h, 'mm per 5 min'")


def is_quantity(units: str, *, named_rain: bool = False) -> bool:
    """Whether units are of reflectivity or rain."""
    try:
        quantity_of(units, named_rain=named_rain)
    except BadInput:
        return False
    return True


def is_rain_name(*names: str) -> bool:
    """Whether one of a variable's names is one of rain."""
    return any(name.lower() in _RAIN_NAMES for name in names)


def is_known_name(*names: str) -> bool:
    """Whether one of a variable's names is one of reflectivity or rain."""
    return any(name.lower() in _RAIN_NAMES | _DBZ_NAMES for name in names)
