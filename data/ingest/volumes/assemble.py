"""Make a `Volume` of the sweeps that a file has: choose fields, convert units, and leave out what was not measured."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.codes import without_codes
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.site import placed
from polarcast.data.ingest.volumes.units import converted
from polarcast.data.ingest.volumes.volume import FIELDS, Mask, RadarSite, Real, Sweep, Volume, find_names

SAME_ELEVATION_DEG = 0.3
"""Sweeps within it look at the same gates, as the two cuts of NEXRAD's lowest elevations."""
_SAME_TIME = np.timedelta64(180, "s")
_NEAR_MEDIAN = np.timedelta64(3600, "s")
_BEYOND_M = 200e3
_LEAST_SPACING_M = 1.0
_LEAST_REACH_M = 1e3
_STEEPEST_DEG = 90.0
_FEWEST_SAMPLES = 12
"""Values at so many places have a common distance by chance in one of thousands of sweeps."""


@dataclass(frozen=True)
class _Fields:
    """A sweep with the fields that it has, by standard name."""

    sweep: RawSweep
    moments: dict[str, Moment]


def to_volume(raw: RawVolume, wanted: Sequence[str], site: RadarSite | None, path: Path) -> Volume:
    """Return the sweeps that rotate in azimuth and have the wanted fields.

    Args:
        raw: Sweeps of a file, or of files that were joined.
        wanted: Required fields; sweeps without them (Doppler cuts) are left out.
        site: Place of the radar, if the files do not tell it.
        path: File for error messages.

    Raises:
        BadInput: A required field, the place or the time is missing, units are unknown, or there are fewer than two
            elevations.
    """
    left_out = Counter[str]()
    for sweep in raw.sweeps:
        left_out.update(sweep.left_out)
        left_out.update([f"sweeps: {sweep.flaw}"] if sweep.flaw else [])
        left_out.update(f"{name}: {why}" for name, why in sweep.unusable.items())
    sweeps = [_with_rays(s, left_out) for s in raw.sweeps if not s.flaw]
    if not sweeps:
        raise BadInput(f"all sweeps are marked: {raw.sweeps[0].flaw}", path, "leave the file out")
    names = _names(sweeps, wanted, path)
    sweeps = _without_codes([_in_standard_units(sweep, names, path, left_out) for sweep in sweeps], names, left_out)
    sweeps = [_where_sampled(sweep, names["zh"]) if "zh" in names else sweep for sweep in sweeps]
    found = [_fields(sweep, names, sweeps) for sweep in sweeps]
    having = [fields for fields in found if all(w in fields.moments for w in wanted)]
    usable = [fields for fields in having if fields.sweep.is_ppi]
    if not usable:
        raise _no_usable_sweeps(having, sweeps, wanted, path)
    if len({round(fields.sweep.elevation, 1) for fields in usable}) < 2:
        raise BadInput(
            f"{len(usable)} sweep{'s' * (len(usable) != 1)} of one elevation",
            path,
            "give volumes with at least two elevations; gridding at several heights needs them",
        )
    _check_reach(usable, path)
    place = placed(raw.site, site, path)
    tells_unseen = any(fields.moments["zh"].has_no_echo for fields in usable if "zh" in fields.moments)
    made = [_to_sweep(fields, tells_unseen, path) for fields in usable]
    return Volume(
        time=_start(usable, path),
        site=place,
        band=raw.band,
        sweeps=tuple(_without_votes(made, usable)),
        names=names,
        left_out=dict(left_out),
    )


def _with_rays(sweep: RawSweep, left_out: Counter[str]) -> RawSweep:
    """Return the sweep with the rays that have angles, by azimuth."""
    has_angles = np.isfinite(sweep.azimuth_deg) & (np.abs(sweep.elevation_deg) <= _STEEPEST_DEG)
    left_out.update({"rays without angles": int((~has_angles).sum())} if not has_angles.all() else {})
    order = np.argsort(np.mod(sweep.azimuth_deg, 360), kind="stable")
    return sweep.with_rays(order[has_angles[order]])


def _names(sweeps: Sequence[RawSweep], wanted: Sequence[str], path: Path) -> dict[str, str]:
    """Return the name in the file of each field: the preferred one of those with values, else of all."""
    available = sorted({name for sweep in sweeps for name in sweep.moments})
    with_values = sorted({n for sweep in sweeps for n, m in sweep.moments.items() if np.isfinite(m.values).any()})
    names = {**find_names(available), **find_names(with_values)}
    if missing := [w for w in wanted if w not in names]:
        unusable = {name: why for sweep in sweeps for name, why in sweep.unusable.items()}
        if name := find_names(list(unusable)).get(missing[0]):
            raise BadInput(f"{name} can't be used: {unusable[name]}", path, "remove it from --variables, or mend it")
        raise BadInput(
            f"the volume has no {missing[0].upper()}",
            path,
            f"remove it from --variables, or give files with it (present: {', '.join(available)})",
        )
    return {field: names[field] for field in FIELDS if field in names}


def _in_standard_units(sweep: RawSweep, names: dict[str, str], path: Path, left_out: Counter[str]) -> RawSweep:
    """Return the sweep with the named fields in the units of `Sweep`; what is beyond their bounds is unseen."""
    moments = dict(sweep.moments)
    for name, theirs in names.items():
        if theirs not in moments:
            continue
        moment = moments[theirs]
        values, beyond = converted(moment.values, name, moment.units, path)
        left_out.update({f"{name} beyond its range": int(beyond.sum())} if beyond.any() else {})
        moments[theirs] = replace(_without(moment, beyond), values=values, units="")
    return replace(sweep, moments=moments)


def _without_codes(sweeps: Sequence[RawSweep], names: dict[str, str], left_out: Counter[str]) -> list[RawSweep]:
    """Return the sweeps without the codes for missing data that the file does not declare; see `codes`."""
    out = list(sweeps)
    for name, theirs in names.items():
        having = [n for n, sweep in enumerate(out) if theirs in sweep.moments]
        values = np.concatenate([out[n].moments[theirs].values.ravel() for n in having])
        for code, count in without_codes(values, name)[1].items():
            left_out[f"{name} of {code:g}, taken as missing"] += count
            for n in having:
                moment = out[n].moments[theirs]
                is_code = moment.values == np.float32(code)
                out[n] = replace(out[n], moments={**out[n].moments, theirs: _without(moment, is_code)})
    return out


def _without(moment: Moment, gates: Mask) -> Moment:
    """Return the moment with gates that have no value, and that were not observed if the file tells such ones."""
    if not gates.any():
        return moment
    unseen = None if moment.unseen is None else moment.unseen | gates
    return replace(moment, values=np.where(gates, np.float32(np.nan), moment.values), unseen=unseen)


def _where_sampled(sweep: RawSweep, name: str) -> RawSweep:
    """Return the sweep with the gates and rays at which a field was sampled.

    Programs put fields of 1 km, or of 1°, into tables of 250 m or 0.5°, and fill what is between.
    """
    if name not in sweep.moments or sweep.moments[name].unseen is not None:
        return sweep
    valid = np.isfinite(sweep.moments[name].values)
    first, step = _samples(np.asarray(valid.any(0)))
    sweep = sweep.with_gates(slice(first, None, step)) if step > 1 else sweep
    first, step = _samples(np.asarray(valid.any(1)))
    return sweep.with_rays(np.arange(first, len(sweep.azimuth_deg), step)) if step > 1 else sweep


def _samples(valid: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first place and the distance of places with values, if they are evenly spaced; else (0, 1)."""
    places = np.flatnonzero(valid)
    step = int(np.gcd.reduce(np.diff(places))) if len(places) >= _FEWEST_SAMPLES else 1
    return (int(places[0]) % step, step) if step > 1 else (0, 1)


def _fields(sweep: RawSweep, names: dict[str, str], sweeps: Sequence[RawSweep]) -> _Fields:
    found = {ours: sweep.moments[theirs] for ours, theirs in names.items() if theirs in sweep.moments}
    return _Fields(sweep, {name: moment for name, moment in found.items() if _is_measured(moment, sweep, sweeps)})


def _is_measured(moment: Moment, sweep: RawSweep, sweeps: Sequence[RawSweep]) -> bool:
    """Whether a sweep measured a field: it has values, or it saw no echo.

    A field without values was not recorded if the sweep has values of other fields, or if another sweep of the same
    elevation has values: formats with one table for all sweeps fill it with missing data.
    """
    if np.isfinite(moment.values).any():
        return True
    if moment.unseen is not None and moment.unseen.any():
        return not moment.unseen.all()
    others = (s for s in sweeps if s is not sweep and abs(s.elevation - sweep.elevation) <= SAME_ELEVATION_DEG)
    return moment.has_no_echo or not any(_has_values(s) for s in (sweep, *others))


def _has_values(sweep: RawSweep) -> bool:
    return any(np.isfinite(moment.values).any() for moment in sweep.moments.values())


def _no_usable_sweeps(
    having: Sequence[_Fields], sweeps: Sequence[RawSweep], wanted: Sequence[str], path: Path
) -> BadInput:
    if not having:
        return BadInput(
            f"no sweep has {' and '.join(w.upper() for w in wanted)} together", path, "choose fewer with --variables"
        )
    modes = ", ".join(sorted({fields.sweep.mode for fields in having}))
    return BadInput(f"the sweeps do not rotate in azimuth ({modes})", path, "give volumes of PPI sweeps")


def _to_sweep(fields: _Fields, tells_unseen: bool, path: Path) -> Sweep:
    raw = fields.sweep
    near = _near_gates(raw.range_m, path)
    zh = fields.moments.get("zh")
    return Sweep(
        elevation_deg=raw.elevation_deg.astype(np.float32),
        azimuth_deg=np.mod(raw.azimuth_deg, 360).astype(np.float32),
        range_m=raw.range_m[near],
        fields={name: moment.values[:, near] for name, moment in fields.moments.items()},
        phase_fold_deg=fields.moments["phidp"].fold_deg if "phidp" in fields.moments else 360.0,
        unseen=_unseen(zh)[:, near] if zh and tells_unseen else None,
    )


def _unseen(moment: Moment) -> Mask:
    """Return the gates (a, r) that were not observed, in a file that tells them from gates without echo."""
    return np.zeros(moment.values.shape, np.bool_) if moment.unseen is None else moment.unseen


def _near_gates(range_m: Real, path: Path) -> npt.NDArray[np.int64]:
    """Return the gates within 200 km. Raises BadInput for ranges that are not ascending metres."""
    steps = np.diff(range_m)
    if len(range_m) < 2 or not np.isfinite(range_m).all() or not (steps >= _LEAST_SPACING_M).all():
        least = float(np.min(steps)) if len(steps) else 0.0
        raise BadInput(f"gates {least:g} m apart", path, "write the range of the gates in ascending metres")
    return np.flatnonzero(range_m <= _BEYOND_M)


def _check_reach(fields: Sequence[_Fields], path: Path) -> None:
    """Raise BadInput for a volume that reaches less than 1 km: its ranges are in km, and no units tell it."""
    reach = max(float(np.nanmax(one.sweep.range_m, initial=0.0)) for one in fields)
    if reach < _LEAST_REACH_M:
        raise BadInput(f"the gates reach {reach:g} m, as if they were in km", path, "write the range in metres")


def _without_votes(sweeps: Sequence[Sweep], fields: Sequence[_Fields]) -> list[Sweep]:
    """Mark gates without a value as unseen where another sweep of the same elevation and time has one.

    Only in files with one code for no data and no echo: there such a gate is no evidence against the other sweep.
    """
    out = []
    for sweep, one in zip(sweeps, fields, strict=True):
        if sweep.unseen is not None or "zh" not in sweep.fields:
            out.append(sweep)
            continue
        missing = ~np.isfinite(sweep.fields["zh"])
        unseen = np.zeros(missing.shape, np.bool_)
        for other, two in zip(sweeps, fields, strict=True):
            if other is not sweep and _is_repeat(one.sweep, two.sweep):
                unseen |= missing & _values_at(other, sweep)
        out.append(replace(sweep, unseen=unseen if unseen.any() else None))
    return out


def _is_repeat(first: RawSweep, second: RawSweep) -> bool:
    if abs(first.elevation - second.elevation) > SAME_ELEVATION_DEG:
        return False
    between = np.abs(_middle(first) - _middle(second))
    return bool(np.isnat(between) or between <= _SAME_TIME)


def _middle(sweep: RawSweep) -> np.timedelta64:
    known = sweep.time[~np.isnat(sweep.time)].astype(np.int64)
    return np.timedelta64(int(np.median(known)), "ms") if len(known) else np.timedelta64("NaT")


def _values_at(other: Sweep, sweep: Sweep) -> Mask:
    """Return whether the nearest gate of another sweep has a value of zh, (a, r) of the sweep."""
    turned = (sweep.azimuth_deg[:, None] - other.azimuth_deg[None] + 180) % 360 - 180
    rays = np.abs(turned).argmin(1)
    gates = np.abs(sweep.range_m[:, None] - other.range_m[None]).argmin(1)
    return np.asarray(np.isfinite(other.fields["zh"])[np.ix_(rays, gates)])


def _start(fields: Sequence[_Fields], path: Path) -> np.datetime64:
    """Return the time of the first ray, to a second; times an hour from the median are not of the volume."""
    times = np.concatenate([one.sweep.time for one in fields])
    known = times[~np.isnat(times)].astype("datetime64[ms]").astype(np.int64)
    if not len(known):
        raise BadInput("no time of the rays", path, "write the time of every ray")
    middle = np.median(known)
    near = known[np.abs(known - middle) <= _NEAR_MEDIAN / np.timedelta64(1, "ms")]
    return np.datetime64(round(int(near.min()) / 1000), "s")
