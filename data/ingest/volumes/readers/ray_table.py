"""Variables of the rays of a CfRadial file or of one of its groups, as numbers in standard units."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.cf_values import coarse_s, decoded, decoded_times, reference_of, without_fill
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.times import from_text

Real64 = npt.NDArray[np.float64]
_TO_METRES = {
    **dict.fromkeys(("", "m", "meter", "meters", "metre", "metres"), 1.0),
    **dict.fromkeys(("km", "kilometer", "kilometers", "kilometre", "kilometres"), 1000.0),
    **dict.fromkeys(("ft", "foot", "feet"), 0.3048),
}
_NEGATED = ("degrees_south", "degree_south", "degrees_west", "degree_west", "degrees_s", "degrees_w")
_TIME_REFERENCES = ("time_reference", "time_coverage_start")
_MOST_COARSE_S = 2.0


@dataclass(frozen=True)
class RayTable:
    """Rays of a file or of one of its sweep groups.

    Attributes:
        group: netCDF4 group of the rays.
        file: netCDF4 file, for what all sweeps share.
        path: For error messages.
    """

    group: Any
    file: Any
    path: Path

    @property
    def rays(self) -> int:
        """Number of rays."""
        return int(self.group.variables["azimuth"].shape[0])

    def has(self, name: str) -> bool:
        """Whether there is a variable of this name."""
        return name in self.group.variables

    def raw(self, name: str) -> npt.NDArray[Any]:
        """Return a variable's stored values."""
        return np.asarray(self.group.variables[name][...])

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of a variable."""
        return attributes_of(self.group.variables[name])

    def numbers(self, name: str) -> Real64:
        """Return a variable's values, NaN where missing."""
        return decoded(self.raw(name), self.attributes(name))

    def units(self, name: str) -> str:
        """Return the units of a variable; empty if it has none."""
        return str(self.attributes(name).get("units", "")).strip()

    def angles(self, name: str) -> Real64:
        """Return angles in degrees."""
        values = self.numbers(name)
        return np.rad2deg(values) if self.units(name).lower().startswith("rad") else values

    def coordinates(self, name: str) -> Real64:
        """Return latitudes or longitudes in degrees north or east.

        Raises:
            BadInput: A negative one is in degrees south or west, which is ambiguous.
        """
        values = self.angles(name)
        if self.units(name).lower().replace(" ", "_") not in _NEGATED:
            return values
        if (values < 0).any():
            what = f"{name} of {float(np.nanmin(values)):g} in {self.units(name)}"
            raise BadInput(what, self.path, "write it in degrees_north and degrees_east")
        return -values

    def metres(self, name: str, *, default: float | None = None) -> Real64:
        """Return lengths in metres.

        Args:
            name: Variable.
            default: Metres in an unknown unit.

        Raises:
            BadInput: The units are unknown, and there is no default.
        """
        factor = _TO_METRES.get(self.units(name).lower(), default)
        if factor is None:
            raise BadInput(f"{name} in {shown(self.units(name))}", self.path, "write it in metres or km")
        return self.numbers(name) * factor

    def times(self) -> Times:
        """Return the time of each ray; of rays without one, or with coarse ones, the start that the file tells.

        Raises:
            BadInput: The times are in unknown units, or in float32 since 1970, and the file does not tell its start.
        """
        start, name = self._start(), next((name for name in ("time", "time_us") if self.has(name)), None)
        if name is None:
            return np.full(self.rays, start)
        attributes, numbers = self.attributes(name), without_fill(self.numbers(name))
        if not np.isfinite(numbers).any():
            return np.full(self.rays, start)
        units, calendar = (
            _with_reference(str(attributes.get("units", "")), self.file),
            str(attributes.get("calendar", "")),
        )
        step, _ = reference_of(units, self.path, calendar)
        dtype = _type_of(numbers, self.raw(name).dtype, np.isnat(start))
        if coarse_s(numbers, dtype, step) > _MOST_COARSE_S and not np.isnat(start):
            return np.full(self.rays, start)
        return np.broadcast_to(decoded_times(numbers, units, calendar, self.path, dtype), (self.rays,))

    def _start(self) -> np.datetime64:
        """Return the start of the file, NaT if it does not tell it, or in words."""
        try:
            return from_text(np.array([self.text("time_coverage_start")]), self.path)[0].astype("datetime64[ms]")
        except BadInput:
            return np.datetime64("NaT", "ms")

    def text(self, name: str) -> str:
        """Return a variable or an attribute of the rays or of the file as text; empty if there is none."""
        for place in (self.group, self.file):
            if name in place.variables:
                return joined(np.asarray(place.variables[name][...]))
            if name in place.ncattrs():
                return str(place.getncattr(name)).strip()
        return ""

    def per_ray(self, name: str, values: Real64) -> Real64:
        """Return the value of each ray: of one for all, or one each. Raises BadInput for another number of values."""
        flat = np.ravel(values)
        if len(flat) == self.rays:
            return flat
        known = np.unique(flat[np.isfinite(flat)])
        if len(known) > 1:
            raise BadInput(
                f"{shown(name)} has {len(flat)} values for {self.rays} rays", self.path, "give every ray one"
            )
        return np.full(self.rays, known[0] if len(known) else np.nan)


def _type_of(numbers: Real64, dtype: np.dtype[Any], has_no_start: bool) -> np.dtype[Any]:
    """Return the type of times: float32 if float64 holds what was rounded to float32, as some programs do.

    One time for all rays may be a number of float32 by chance; then it is so only where the start can replace it.
    """
    known = np.unique(numbers[np.isfinite(numbers)])
    are_rounded = dtype.kind == "f" and bool((known == known.astype(np.float32)).all())
    return np.dtype(np.float32) if are_rounded and len(known) > has_no_start else dtype


def attributes_of(item: Any) -> Mapping[str, Any]:
    """Return the attributes of a netCDF4 variable, group or file."""
    return {name: item.getncattr(name) for name in item.ncattrs()}


def joined(characters: npt.NDArray[Any]) -> str:
    """Return text that is stored as characters, or as text."""
    parts = [c.decode("utf-8", "replace") if isinstance(c, bytes) else str(c) for c in np.ravel(characters)]
    return "".join(parts).split("\0")[0].strip()


def _with_reference(units: str, file: Any) -> str:
    """Replace the name of a variable by its content: `seconds since time_reference` (WMO FM 301)."""
    for name in _TIME_REFERENCES:
        if name in units and name in file.variables:
            return units.replace(name, joined(np.asarray(file.variables[name][...])))
    return units
