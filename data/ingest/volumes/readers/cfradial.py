"""Read CfRadial 1 (one table of rays) and CfRadial 2 (a group for each sweep) with netCDF4.

The stored values are decoded here, because xarray ignores valid ranges and the sign under `_Unsigned`, and because
rays of `antenna_transition` and rays without angles must be left out before sweeps are sorted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.cf_values import decoded, decoded_times
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.volume import RadarSite, band_of

CFRADIAL1, CFRADIAL2 = "CfRadial 1", "CfRadial 2"
SWEEP = "sweep"
_TO_METRES = {
    **dict.fromkeys(("", "m", "meter", "meters", "metre", "metres"), 1.0),
    **dict.fromkeys(("km", "kilometer", "kilometers", "kilometre", "kilometres"), 1000.0),
}
_NAMES = ("instrument_name", "RadarName", "site_name")
_TIME_REFERENCES = ("time_reference", "time_coverage_start")
_RAYS = ("time", "azimuth", "elevation")
"""Names of the dimension of rays."""


@dataclass(frozen=True)
class _Table:
    """Rays of a file or of one of its sweep groups."""

    group: Any
    file: Any
    path: Path

    def has(self, name: str) -> bool:
        return name in self.group.variables

    def raw(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self.group.variables[name][...])

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return a variable's values, NaN where missing."""
        return decoded(self.raw(name), _attributes(self.group.variables[name]))

    def units(self, name: str) -> str:
        return str(_attributes(self.group.variables[name]).get("units", "")).strip()

    def angles(self, name: str) -> npt.NDArray[np.float32]:
        """Return angles of rays in degrees."""
        values = self.numbers(name)
        return (np.rad2deg(values) if self.units(name).lower().startswith("rad") else values).astype(np.float32)

    @property
    def ranges(self) -> npt.NDArray[np.float32]:
        """Centres of the gates in metres. Raises BadInput for unknown units."""
        units = self.units("range").lower()
        if units not in _TO_METRES:
            raise BadInput(f"range in {units!r}", self.path, "write it in metres or km")
        values = self.numbers("range")
        return ((values if values.ndim == 1 else values[0]) * _TO_METRES[units]).astype(np.float32)

    def times(self) -> npt.NDArray[np.datetime64]:
        name = "time" if self.has("time") else "time_us"
        attributes = _attributes(self.group.variables[name])
        units = _with_reference(str(attributes.get("units", "")), self.file)
        return decoded_times(self.numbers(name), units, str(attributes.get("calendar", "")), self.path)


def read_cfradial1(path: Path) -> RawVolume:
    """Read the sweeps of a CfRadial 1 file, also one with a different number of gates in each ray."""
    with _opened(path) as file:
        table = _Table(file, file, path)
        first, last = (table.raw(f"sweep_{end}_ray_index").astype(int) for end in ("start", "end"))
        moments = {name: table_of(table, name) for name in _moments(table)}
        angles = {name: table.angles(name) for name in ("elevation", "azimuth")}
        times, ranges, flags = table.times(), table.ranges, _transitions(table)
        sweeps = []
        for number, (start, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            rays = slice(start, end + 1)
            chosen = {name: _cut(moment, rays) for name, moment in moments.items()}
            sweep = RawSweep(
                angles["elevation"][rays], angles["azimuth"][rays], ranges, times[rays], chosen,
                mode=_mode(table, number),
            )  # fmt: skip
            sweeps.append(_without(sweep, flags[rays]))
        return RawVolume(CFRADIAL1, _site(table, [file]), tuple(sweeps), _band([file]))


def read_cfradial2(path: Path) -> RawVolume:
    """Read the sweeps of a CfRadial 2 file, a group each."""
    with _opened(path) as file:
        names = sorted((n for n in file.groups if n.startswith(SWEEP)), key=_number_in)
        tables = [_Table(file.groups[name], file, path) for name in names]
        sweeps = tuple(_without(_sweep(table), _transitions(table)) for table in tables)
        groups = [file, *(table.group for table in tables)]
        return RawVolume(CFRADIAL2, _site(_Table(file, file, path), groups), sweeps, _band(groups))


def _sweep(table: _Table) -> RawSweep:
    moments = {name: table_of(table, name) for name in _moments(table)}
    elevation, azimuth = table.angles("elevation"), table.angles("azimuth")
    return RawSweep(elevation, azimuth, table.ranges, table.times(), moments, mode=_mode(table, 0))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import netCDF4

    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        file.set_always_mask(False)
        yield file


def _moments(table: _Table) -> list[str]:
    """Return the names of the fields of rays by gates, or of all gates in one row (`n_points`)."""
    found = []
    for name, variable in table.group.variables.items():
        dims = variable.dimensions
        is_field = len(dims) == 2 and dims[0] in _RAYS and dims[1] == "range"
        if (is_field or dims == ("n_points",)) and variable.dtype != str and variable.dtype.kind in "fiu":
            found.append(str(name))
    return found


def table_of(table: _Table, name: str) -> Moment:
    """Return a field as (a, r); NaN beyond the gates that a ray has."""
    values = table.numbers(name).astype(np.float32)
    if values.ndim == 1:
        counts, starts = (table.raw(n).astype(int) for n in ("ray_n_gates", "ray_start_index"))
        gates = len(table.ranges)
        full = np.full((len(counts), gates), np.nan, np.float32)
        for ray, (count, start) in enumerate(zip(counts.tolist(), starts.tolist(), strict=True)):
            full[ray, : min(count, gates)] = values[start : start + min(count, gates)]
        values = full
    return Moment(values, table.units(name))


def _cut(moment: Moment, rays: slice) -> Moment:
    return Moment(moment.values[rays], moment.units)


def _transitions(table: _Table) -> npt.NDArray[np.bool_]:
    """Return the rays during which the antenna moved from one sweep to the next."""
    name = "antenna_transition"
    if not table.has(name):
        return np.zeros(len(table.raw("azimuth")), np.bool_)
    return np.asarray(table.numbers(name) == 1)


def _without(sweep: RawSweep, transitions: npt.NDArray[np.bool_]) -> RawSweep:
    if not transitions.any():
        return sweep
    kept = sweep.with_rays(np.flatnonzero(~transitions))
    return replace(kept, left_out={"rays between sweeps (antenna_transition)": int(transitions.sum())})


def _mode(table: _Table, number: int) -> str:
    """Return the scan mode of a sweep: text, or rows of characters."""
    if not table.has("sweep_mode"):
        return ""
    raw = table.raw("sweep_mode")
    row = raw[min(number, len(raw) - 1)] if raw.ndim and raw.dtype.kind == "S" and raw.ndim > 1 else np.ravel(raw)
    if raw.ndim <= 1 and raw.dtype.kind != "S":
        row = np.ravel(raw)[min(number, raw.size - 1) :][:1]
    return _joined(row).lower()


def _joined(characters: npt.NDArray[Any]) -> str:
    parts = [c.decode("utf-8", "replace") if isinstance(c, bytes) else str(c) for c in np.ravel(characters)]
    return "".join(parts).split("\0")[0].strip()


def _site(table: _Table, groups: list[Any]) -> RadarSite:
    """Return the place of the radar; of one for each ray (ships, LROSE) the median."""
    latitude, longitude, altitude = (_middle_of(name, groups, table) for name in ("latitude", "longitude", "altitude"))
    attributes = _attributes(table.file)
    code = next((str(attributes[n]).strip() for n in _NAMES if str(attributes.get(n, "")).strip()), "")
    return RadarSite(latitude, longitude, altitude, code)


def _middle_of(name: str, groups: list[Any], table: _Table) -> float:
    """Return the median of a variable of the first group that has it; NaN if none has a value."""
    places = [group for group in groups if name in group.variables]
    values = _Table(places[0], table.file, table.path).numbers(name) if places else np.array(np.nan)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan


def _band(groups: list[Any]) -> str | None:
    for group in groups:
        if "frequency" in group.variables:
            return band_of(float(np.ravel(np.asarray(group.variables["frequency"][...]))[0]))
    return None


def _with_reference(units: str, file: Any) -> str:
    """Replace the name of a variable by its content: `seconds since time_reference` (WMO FM 301)."""
    for name in _TIME_REFERENCES:
        if name in units and name in file.variables:
            return units.replace(name, _joined(np.asarray(file.variables[name][...])))
    return units


def _number_in(name: str) -> int:
    digits = name.removeprefix(SWEEP).lstrip("_")
    return int(digits) if digits.isdigit() else 0


def _attributes(item: Any) -> Mapping[str, Any]:
    return {name: item.getncattr(name) for name in item.ncattrs()}
