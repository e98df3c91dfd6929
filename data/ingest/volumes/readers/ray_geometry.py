"""Where the gates of a CfRadial file are: ranges of each ray, corrections of angles, and rays of each sweep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes.readers.ray_table import RayTable, Real64
from polarcast.data.ingest.volumes.volume import Real

Indices = npt.NDArray[np.int64]
_SAME_SHARE = 0.1
"""Ranges that differ by a smaller share of the spacing are the same."""
_LEAST_SPACING_M = 5.0
_LARGEST = {"azimuth": 360.0, "elevation": 90.0, "range": 100e3}
"""Corrections beyond are codes for none, such as −9999."""
_CORRECTIONS = ("georef_correction", "georeference_correction", "geometry_correction")
_MOBILE = ("vehicle", "ship", "aircraft", "aircraft_fore", "aircraft_aft", "aircraft_tail", "aircraft_belly",
           "aircraft_roof", "aircraft_nose", "satellite_orbit")  # fmt: skip
_STEP_DEG = 0.2
_FEWEST_RAYS = 8
"""Fewer rays of one elevation are not a sweep, but the way of the antenna to the next one."""


@dataclass(frozen=True)
class Ranges:
    """Ranges of the gates of a sweep.

    Attributes:
        metres: (r,) centres of the gates.
        gates: (a, r) stored gate that is nearest to each, −1 where none is; None if the gates of all rays are these.
    """

    metres: Real
    gates: Indices | None = None


@dataclass(frozen=True)
class Corrections:
    """What the file says to add to the angles of each ray (a,), in degrees, and to its ranges in metres."""

    azimuth: Real64
    elevation: Real64
    range: Real64

    def note(self, rays: Indices) -> dict[str, int]:
        """Return the number of changed rays by correction."""
        units = {"azimuth": "degrees", "elevation": "degrees", "range": "m"}
        added = {name: getattr(self, name)[rays] for name in units}
        return {
            f"rays moved by {name}_correction ({np.median(values):g} {units[name]})": int((values != 0).sum())
            for name, values in added.items()
            if values.any()
        }


def ranges_of(table: RayTable, rays: Indices, sweep: int, sweeps: int, shift_m: Real64) -> Ranges:
    """Return the ranges of the gates of a sweep.

    Geometry of each ray (`ray_start_range`, `ray_gate_spacing`) comes before `range`, as LROSE reads it. Rays of one
    sweep that differ are put on the gates of most of them, by the nearest gate.

    Args:
        table: Rays of the file or the group.
        rays: Rays of the sweep.
        sweep, sweeps: Number of the sweep in the table, and number of sweeps.
        shift_m: (a,) correction of the range of each ray in the table.
    """
    stored = table.metres("range")
    rows = stored if stored.ndim > 1 else stored[None]
    if len(rows) == table.rays and stored.ndim > 1:
        rows = rows[rays]
    elif len(rows) > 1:
        rows = rows[[sweep if len(rows) == sweeps else 0]]
    own = _own_ranges(table, rays, rows)
    rows = rows if own is None else own
    shift = shift_m[rays]
    if np.ptp(shift) if len(shift) else 0.0:
        rows = np.broadcast_to(rows, (len(rays), rows.shape[1]))
        return on_common_range(rows + shift[:, None])
    return on_common_range(rows + (shift[0] if len(shift) else 0.0))


def _own_ranges(table: RayTable, rays: Indices, rows: Real64) -> Real64 | None:
    """Return the ranges (a, r), or (1, r) if all are the same, of the geometry of each ray; None if there is none."""
    if not (table.has("ray_start_range") and table.has("ray_gate_spacing")):
        return None
    start, spacing = (table.per_ray(n, table.metres(n))[rays] for n in ("ray_start_range", "ray_gate_spacing"))
    if not (np.isfinite(start) & (spacing > 0)).all() or not len(rays):
        return None
    has_no_units = not (table.units("ray_start_range") or table.units("ray_gate_spacing"))
    if has_no_units and np.median(spacing) < _LEAST_SPACING_M:
        start, spacing = start * 1000, spacing * 1000  # in km
    geometry = np.unique(np.stack([start, spacing], 1), axis=0)
    if len(geometry) == 1:
        start, spacing = start[:1], spacing[:1]
    return np.asarray(start[:, None] + spacing[:, None] * np.arange(rows.shape[1]))


def on_common_range(rows: Real64) -> Ranges:
    """Return the ranges that most rays have, and the nearest gate of each ray.

    Args:
        rows: (a, r) ranges of each ray in metres, NaN beyond its last gate; or (1, r), those of all.
    """
    if len(rows) == 1:
        return Ranges(rows[0].astype(np.float32))
    steps = np.diff(rows, axis=1)
    close = _SAME_SHARE * float(np.nanmedian(steps)) if np.isfinite(steps).any() else 0.0
    if np.isfinite(rows).all() and np.ptp(rows, axis=0).max() <= close:
        return Ranges(np.median(rows, axis=0).astype(np.float32))
    kinds, which, counts = np.unique(
        np.nan_to_num(np.rint(rows), nan=-1), axis=0, return_inverse=True, return_counts=True
    )
    which = which.ravel()
    first = [int(np.flatnonzero(which == kind)[0]) for kind in range(len(kinds))]
    most = rows[first[int(counts.argmax())]]
    axis = most[np.isfinite(most)]
    nearest = np.stack([_nearest(rows[row], axis) for row in first])
    return Ranges(axis.astype(np.float32), nearest[which])


def _nearest(row: Real64, axis: Real64) -> Indices:
    """Return the gate of a ray that contains each range, −1 where none does."""
    known = np.flatnonzero(np.isfinite(row))
    if len(known) < 2:
        return np.full(len(axis), -1)
    here = row[known]
    edges = np.concatenate(
        [[1.5 * here[0] - 0.5 * here[1]], (here[1:] + here[:-1]) / 2, [1.5 * here[-1] - 0.5 * here[-2]]]
    )
    gate = np.searchsorted(edges, axis, side="right") - 1
    inside = (gate >= 0) & (gate < len(known))
    return np.where(inside, known[np.clip(gate, 0, len(known) - 1)], -1)


def corrections_of(table: RayTable) -> Corrections:
    """Return what is to be added to azimuth, elevation and range (CfRadial 1.4, sub-convention geometry_correction).

    Nothing is, where the file says that it was done (`georefs_applied`).
    """
    found = {}
    for name, largest in _LARGEST.items():
        values = np.zeros(table.rays)
        for place in _places(table):
            if place.has(f"{name}_correction") and not _is_applied(table):
                numbers = place.metres if name == "range" else place.angles
                given = table.per_ray(f"{name}_correction", numbers(f"{name}_correction"))
                values = np.where(np.abs(given) <= largest, given, 0.0)
        found[name] = values
    return Corrections(found["azimuth"], found["elevation"], found["range"])


def _places(table: RayTable) -> Iterator[RayTable]:
    for group in (table.file, table.group):
        yield RayTable(group, table.file, table.path)
        yield from (RayTable(group.groups[n], table.file, table.path) for n in _CORRECTIONS if n in group.groups)


def _is_applied(table: RayTable) -> bool:
    return table.has("georefs_applied") and bool((table.numbers("georefs_applied") == 1).all())


def check_platform(table: RayTable) -> None:
    """Check that azimuths are relative to north: those of a moving platform are, once its heading was applied.

    Raises:
        BadInput: They are relative to a vehicle, a ship or an aircraft.
    """
    is_mobile = table.text("platform_is_mobile").lower()
    if is_mobile in ("false", "0", "no") or _is_applied(table):
        return
    if is_mobile not in ("true", "1", "yes") and table.text("platform_type").lower() not in _MOBILE:
        return
    for place in (place for place in _heading_places(table) if place.has("heading")):
        heading = place.angles("heading")
        if (np.abs(np.mod(heading + 180, 360) - 180) > _STEP_DEG).any():
            what = f"azimuths relative to a moving platform (heading {float(np.nanmedian(heading)):.0f}°)"
            fix = "apply its georeference (georefs_applied = 1), for example with LROSE RadxConvert"
            raise BadInput(what, table.path, fix)


def _heading_places(table: RayTable) -> Iterator[RayTable]:
    yield table
    yield from (
        RayTable(table.group.groups[n], table.file, table.path) for n in ("georeference",) if n in table.group.groups
    )


def sweep_rays(table: RayTable) -> list[Indices]:
    """Return the rays of each sweep: by index, by the sweep's number of each ray, or by changes of elevation.

    Raises:
        BadInput: The index is not of the file's rays, or there is none and the elevation changes with every ray.
    """
    if table.has("sweep_start_ray_index") or table.has("sweep_end_ray_index"):
        return _by_index(table)
    if table.has("sweep_number") and table.raw("sweep_number").size == table.rays > 1:
        numbers = np.ravel(table.raw("sweep_number"))
        return _cut(np.flatnonzero(np.diff(numbers)) + 1, table.rays)
    if not table.has("elevation"):
        raise BadInput("rays without elevation", table.path, "write the variable elevation")
    found = [rays for rays in _by_elevation(table) if len(rays) >= min(_FEWEST_RAYS, table.rays)]
    if not found:
        raise BadInput("no sweeps: sweep_start_ray_index is missing", table.path, "write the rays of each sweep")
    return found


def _by_index(table: RayTable) -> list[Indices]:
    """Return the rays of each sweep by its first and last one, also if they are counted from 1 or to the next first."""
    first, last = (
        np.ravel(table.raw(name)).astype(int) if table.has(name) else None
        for name in ("sweep_start_ray_index", "sweep_end_ray_index")
    )
    if first is None:
        assert last is not None
        first = np.append(0, last[:-1] + 1)
    last = np.append(first[1:], table.rays) - 1 if last is None else last
    if last.size and last[-1] == table.rays and len(first) == len(last):
        if (last[:-1] == first[1:]).all() and first[0] == 0:
            last = last - 1
        elif (last[:-1] + 1 == first[1:]).all() and first[0] == 1:
            first, last = first - 1, last - 1
    if len(first) != len(last) or not ((first >= 0) & (last < table.rays)).all():
        raise BadInput("sweeps of rays that the file does not have", table.path, "correct sweep_start_ray_index")
    return [np.arange(start, end + 1) for start, end in zip(first.tolist(), last.tolist(), strict=True)]


def _by_elevation(table: RayTable) -> Iterator[Indices]:
    """Return rays of one elevation in one turn of the antenna."""
    elevation, azimuth = table.angles("elevation"), table.angles("azimuth")
    for rays in _cut(np.flatnonzero(np.abs(np.diff(elevation)) > _STEP_DEG) + 1, table.rays):
        turned = np.append(0.0, np.nancumsum(np.abs((np.diff(azimuth[rays]) + 180) % 360 - 180)))
        width = float(np.median(np.diff(turned))) if len(rays) > 1 else 0.0
        turns = np.floor((turned + width / 2) / 360)
        yield from (rays[part] for part in _cut(np.flatnonzero(np.diff(turns)) + 1, len(rays)))


def _cut(places: Sequence[int] | Indices, count: int) -> list[Indices]:
    return [np.arange(start, end) for start, end in pairwise([0, *map(int, places), count])]
