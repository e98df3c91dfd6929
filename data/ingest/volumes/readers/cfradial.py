"""Read CfRadial 1 (one table of rays) and CfRadial 2 (a group for each sweep) with netCDF4.

The stored values are decoded here, because xarray ignores valid ranges and the sign under `_Unsigned`, and because
rays of `antenna_transition` and rays without angles must be left out before sweeps are sorted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.cf_values import is_undetected, undetect_codes
from polarcast.data.ingest.volumes.alignment import on_one_table
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.readers.ray_geometry import (
    Corrections,
    Indices,
    Ranges,
    check_platform,
    corrections_of,
    ranges_of,
    sweep_rays,
)
from polarcast.data.ingest.volumes.readers.ray_table import RayTable, Real64, attributes_of, joined
from polarcast.data.ingest.volumes.volume import RadarSite, band_of

CFRADIAL1, CFRADIAL2 = "CfRadial 1", "CfRadial 2"
SWEEP = "sweep"
_NAMES = ("instrument_name", "RadarName", "site_name")
_RAYS = ("time", "azimuth", "elevation")
"""Names of the dimension of rays."""
_COORDINATES = {"azimuth", "elevation", "range"}


def has_rays(path: Path) -> bool:
    """Whether a netCDF file without an index of sweeps has fields of rays by gates."""
    with _opened(path) as file:
        if not set(file.variables) >= _COORDINATES:
            return False
        azimuth, elevation = (file.variables[name].dimensions for name in ("azimuth", "elevation"))
        return len(azimuth) == 1 and azimuth == elevation and bool(_moments(RayTable(file, file, path)))


def read_cfradial1(path: Path) -> RawVolume:
    """Read the sweeps of a CfRadial 1 file, also one with a different number of gates in each ray.

    Raises:
        BadInput: Azimuths are relative to a moving platform, units are not known, or the sweeps can't be told.
    """
    with _opened(path) as file:
        table = RayTable(file, file, path)
        _check_coordinates(table)
        return RawVolume(CFRADIAL1, _site(table, [file]), tuple(_sweeps(table, sweep_rays(table))), _band([file]))


def read_cfradial2(path: Path) -> RawVolume:
    """Read the sweeps of a CfRadial 2 file, a group each; see `read_cfradial1`."""
    with _opened(path) as file:
        names = sorted((n for n in file.groups if n.startswith(SWEEP)), key=_number_in)
        tables = [RayTable(file.groups[name], file, path) for name in names]
        found = [_sweeps_of_group(table) for table in tables]
        errors = [one for one in found if isinstance(one, BadInput)]
        if errors and len(errors) == len(found):
            raise errors[0]
        sweeps = [
            sweep
            for one in found
            for sweep in ([replace(on_one_table([]), flaw=one.reason)] if isinstance(one, BadInput) else one)
        ]
        groups = [file, *(table.group for table in tables)]
        return RawVolume(CFRADIAL2, _site(RayTable(file, file, path), groups), tuple(sweeps), _band(groups))


def _sweeps_of_group(table: RayTable) -> list[RawSweep] | BadInput:
    """Return the sweep of a group, or why it can't be read; none if the antenna only moved."""
    try:
        _check_coordinates(table)
        return list(_sweeps(table, [np.arange(table.rays)]))
    except BadInput as error:
        return error


def _sweeps(table: RayTable, of_sweeps: list[Indices]) -> Iterator[RawSweep]:
    check_platform(table)
    moments = {name: _moment(table, name) for name in _moments(table)}
    corrections, times, moving = corrections_of(table), table.times(), _transitions(table)
    elevation = (_elevations(table, of_sweeps) + corrections.elevation).astype(np.float32)
    azimuth = (table.angles("azimuth") + corrections.azimuth).astype(np.float32)
    for number, rays in enumerate(of_sweeps):
        kept = rays[~moving[rays]]
        if not len(kept):
            continue
        ranges = ranges_of(table, kept, number, len(of_sweeps), corrections.range)
        yield RawSweep(
            elevation[kept], azimuth[kept], ranges.metres, times[kept],
            {name: _of_rays(moment, kept, ranges) for name, moment in moments.items()},
            mode=_mode(table, number), left_out=_left_out(corrections, kept, int(moving[rays].sum())),
        )  # fmt: skip


def _check_coordinates(table: RayTable) -> None:
    """Raise BadInput for rays without azimuths or ranges."""
    for name in ("azimuth", "range"):
        if not table.has(name):
            raise BadInput(f"rays without {name}", table.path, f"write the variable {name}")


def _elevations(table: RayTable, of_sweeps: list[Indices]) -> Real64:
    """Return the elevation of each ray: measured, or the one that its sweep was to have. Raises BadInput."""
    if table.has("elevation"):
        return table.angles("elevation")
    name = next((name for name in ("fixed_angle", "sweep_fixed_angle") if table.has(name)), None)
    if name is None or len(fixed := np.ravel(table.angles(name))) != len(of_sweeps):
        raise BadInput("rays without elevation", table.path, "write the variable elevation")
    found = np.full(table.rays, np.nan)
    for rays, angle in zip(of_sweeps, fixed.tolist(), strict=True):
        found[rays] = angle
    return found


def _left_out(corrections: Corrections, rays: Indices, moving: int) -> dict[str, int]:
    found = {"rays between sweeps (antenna_transition)": moving} if moving else {}
    return {**found, **corrections.note(rays)}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import netCDF4

    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        file.set_always_mask(False)
        yield file


def _moments(table: RayTable) -> list[str]:
    """Return the names of the fields of rays by gates, or of all gates in one row (`n_points`)."""
    found = []
    for name, variable in table.group.variables.items():
        dims = variable.dimensions
        is_field = len(dims) == 2 and dims[0] in _RAYS and dims[1] == "range" and name != "range"
        if (is_field or dims == ("n_points",)) and variable.dtype != str and variable.dtype.kind in "fiu":
            found.append(str(name))
    return found


def _moment(table: RayTable, name: str) -> Moment:
    """Return a field as (a, r); NaN beyond the gates that a ray has.

    A file with the code `_Undetect` for no echo (WMO FM 301) tells it from gates that were not observed.
    """
    values = table.numbers(name).astype(np.float32)
    attributes = table.attributes(name)
    no_echo = is_undetected(table.raw(name), attributes)
    if values.ndim == 1:
        values, no_echo = _table_of(table, values, np.float32(np.nan)), _table_of(table, no_echo, np.False_)
    moment = Moment(values, table.units(name), standard_name=str(attributes.get("standard_name", "")))
    if not undetect_codes(attributes):
        return moment
    return replace(moment, unseen=np.isnan(values) & ~no_echo, has_no_echo=bool(no_echo.any()))


def _table_of(table: RayTable, row: npt.NDArray[Any], nothing: Any) -> npt.NDArray[Any]:
    """Return the gates of all rays in one row as (a, r)."""
    counts, starts = (table.raw(n).astype(int) for n in ("ray_n_gates", "ray_start_index"))
    gates = int(table.group.variables["range"].shape[-1])
    full = np.full((len(counts), gates), nothing, row.dtype)
    for ray, (count, start) in enumerate(zip(counts.tolist(), starts.tolist(), strict=True)):
        full[ray, : min(count, gates)] = row[start : start + min(count, gates)]
    return full


def _of_rays(moment: Moment, rays: Indices, ranges: Ranges) -> Moment:
    """Return the rays of a sweep, with the gates of its ranges; what a ray does not reach is unseen."""
    chosen = moment.rays(rays)
    if ranges.gates is None:
        return chosen
    beyond = ranges.gates < 0
    gates = np.maximum(ranges.gates, 0)
    values = np.where(beyond, np.float32(np.nan), np.take_along_axis(chosen.values, gates, 1))
    unseen = None if chosen.unseen is None else np.take_along_axis(chosen.unseen, gates, 1) | beyond
    return replace(chosen, values=values, unseen=unseen)


def _transitions(table: RayTable) -> npt.NDArray[np.bool_]:
    """Return the rays during which the antenna moved from one sweep to the next."""
    name = "antenna_transition"
    return np.asarray(table.numbers(name) == 1) if table.has(name) else np.zeros(table.rays, np.bool_)


def _mode(table: RayTable, number: int) -> str:
    """Return the scan mode of a sweep: text, or rows of characters."""
    if not table.has("sweep_mode"):
        return ""
    raw = table.raw("sweep_mode")
    row = raw[min(number, len(raw) - 1)] if raw.ndim and raw.dtype.kind == "S" and raw.ndim > 1 else np.ravel(raw)
    if raw.ndim <= 1 and raw.dtype.kind != "S":
        row = np.ravel(raw)[min(number, raw.size - 1) :][:1]
    mode = joined(row).lower().replace(" ", "_")
    return "ppi" if mode.startswith("ppi") else mode


def _site(table: RayTable, groups: list[Any]) -> RadarSite:
    """Return the place of the radar; of one for each ray (ships, LROSE) the median."""
    latitude, longitude, altitude = (_middle_of(name, groups, table) for name in ("latitude", "longitude", "altitude"))
    attributes = attributes_of(table.file)
    code = next((str(attributes[n]).strip() for n in _NAMES if str(attributes.get(n, "")).strip()), "")
    return RadarSite(latitude, longitude, altitude, code)


def _middle_of(name: str, groups: list[Any], table: RayTable) -> float:
    """Return the median of a variable of the first group that has it; NaN if none has a value."""
    place = next((RayTable(group, table.file, table.path) for group in groups if name in group.variables), None)
    if place is None:
        return np.nan
    values = place.metres(name, default=1.0) if name == "altitude" else place.coordinates(name)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan


def _band(groups: list[Any]) -> str | None:
    for group in groups:
        if "frequency" in group.variables:
            variable = group.variables["frequency"]
            values = np.ravel(np.asarray(variable[...]))
            return band_of(float(values[0]), str(attributes_of(variable).get("units", ""))) if values.size else None
    return None


def _number_in(name: str) -> int:
    digits = name.removeprefix(SWEEP).lstrip("_")
    return int(digits) if digits.isdigit() else 0
