"""Make a `Volume` of the sweeps that a file has: leave out what must not be used, and tell what was not observed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.report import SWEEPS
from polarcast.data.ingest.volumes.fields import (
    SAME_ELEVATION_DEG,
    SweepFields,
    field_names,
    fields_of,
    with_true_units,
)
from polarcast.data.ingest.volumes.phase import HALF_TURN_DEG, folds_at_half_turn
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.site import placed
from polarcast.data.ingest.volumes.volume import FIELDS, Mask, RadarSite, Sweep, Volume

_SAME_TIME = np.timedelta64(180, "s")
_NEAR_MEDIAN = np.timedelta64(3600, "s")
_BEYOND_M = 200e3
_LEAST_SPACING_M = 1.0
_LEAST_REACH_M = 1e3
_STEEPEST_DEG = 90.0
_RELIABLE_DBZ, _RELIABLE_RHOHV = 15.0, 0.9


def to_volume(
    raw: RawVolume,
    wanted: Sequence[str],
    site: RadarSite | None,
    path: Path,
    named: Mapping[str, str] | None = None,
) -> Volume:
    """Return the sweeps that rotate in azimuth and have the wanted fields.

    Args:
        raw: Sweeps of a file, or of files that were joined.
        wanted: Required fields; sweeps without them (Doppler cuts) are left out.
        site: Place of the radar, if the files do not tell it.
        path: File for error messages.
        named: Name in the file by field, where it is given.

    Raises:
        BadInput: A required field, the place or the time is missing, units are unknown, or there are fewer than two
            elevations.
    """
    left_out, read_as = Counter[str](), dict[str, str]()
    sweeps = _without_flaws(raw.sweeps, left_out, path)
    names = field_names(sweeps, wanted, named or {}, path)
    sweeps = with_true_units(sweeps, names, read_as)
    found = fields_of(sweeps, names, wanted, path, left_out)
    usable = _usable(found, wanted, left_out, path)
    usable = _with_fold(usable, read_as)
    place = placed(raw.site, site, path)
    tells_unseen = any(fields.moments["zh"].has_no_echo for fields in usable if "zh" in fields.moments)
    made = [_to_sweep(fields, tells_unseen) for fields in usable]
    return Volume(
        time=_start(usable, path),
        site=place,
        band=raw.band,
        sweeps=tuple(_without_votes(made, usable)),
        names=_names_of(usable),
        left_out=dict(left_out),
        kind=raw.kind,
        read_as=read_as,
    )


def _without_flaws(sweeps: Sequence[RawSweep], left_out: Counter[str], path: Path) -> list[RawSweep]:
    """Return the sweeps that are not marked and whose gates are in order, and count what is left out.

    Raises:
        BadInput: There is none.
    """
    kept, flaws = [], list[BadInput]()
    for sweep in sweeps:
        left_out.update(sweep.left_out)
        left_out.update(f"{name}: {why}" for name, why in sweep.unusable.items())
        if (flaw := _flaw_of(sweep, path)) is not None:
            flaws.append(flaw)
            left_out[f"{SWEEPS}: {sweep.flaw or flaw.reason}"] += 1
            continue
        kept.append(_with_rays(sweep, left_out))
    if not kept:
        raise flaws[0]
    return kept


def _flaw_of(sweep: RawSweep, path: Path) -> BadInput | None:
    if sweep.flaw:
        return BadInput(f"all sweeps are marked: {sweep.flaw}", path, "leave the file out")
    steps = np.diff(sweep.range_m)
    if len(sweep.range_m) < 2 or not np.isfinite(sweep.range_m).all() or not (steps >= _LEAST_SPACING_M).all():
        least = float(np.min(steps)) if len(steps) else 0.0
        what = f"gates {least:g} m apart" if len(sweep.range_m) > 1 else "a single gate in each ray"
        return BadInput(what, path, "write the range of the gates in ascending metres")
    reach = float(sweep.range_m[-1])
    if reach < _LEAST_REACH_M:
        return BadInput(f"the gates reach {reach:g} m, as if they were in km", path, "write the range in metres")
    return None


def _usable(
    found: Sequence[SweepFields], wanted: Sequence[str], left_out: Counter[str], path: Path
) -> list[SweepFields]:
    """Return the sweeps that rotate in azimuth and have the wanted fields, and count the others.

    Raises:
        BadInput: They are not of two elevations.
    """
    having = [fields for fields in found if all(w in fields.moments for w in wanted)]
    usable = [fields for fields in having if fields.sweep.is_ppi]
    for fields in found:
        if any(fields is one for one in usable):
            continue
        lacks = next((w.upper() for w in wanted if w not in fields.moments), None)
        is_second = any(abs(one.sweep.elevation - fields.sweep.elevation) <= SAME_ELEVATION_DEG for one in usable)
        why = f"without {lacks}" if lacks else f"that do not rotate in azimuth ({fields.sweep.mode})"
        left_out[f"{'second cuts' if is_second else SWEEPS} {why}"] += 1
    if not usable:
        raise _no_usable_sweeps(having, found, wanted, path)
    if len({round(fields.sweep.elevation, 1) for fields in usable}) < 2:
        raise _too_few(len(usable), left_out, path)
    return usable


def _too_few(usable: int, left_out: Mapping[str, int], path: Path) -> BadInput:
    others = [f"{number} {why}" for why, number in left_out.items() if why.startswith(SWEEPS)]
    more = f", {', '.join(others)}" if others else ""
    return BadInput(
        f"{usable} sweep{'s' * (usable != 1)} of one elevation{more}",
        path,
        "give volumes with at least two elevations; gridding at several heights needs them",
    )


def _names_of(usable: Sequence[SweepFields]) -> dict[str, str]:
    """Return the name in the file of each field; all of them, the most frequent first, if sweeps differ."""
    counts = {ours: Counter(f.names[ours] for f in usable if ours in f.names) for ours in FIELDS}
    return {ours: ", ".join(name for name, _ in count.most_common()) for ours, count in counts.items() if count}


def _with_fold(usable: Sequence[SweepFields], read_as: dict[str, str]) -> list[SweepFields]:
    """Return the sweeps with the folding interval of their phases, where the data tell that it is 180°."""
    phases = [f.moments["phidp"].values for f in usable if "phidp" in f.moments]
    reliable = [_reliable(f) for f in usable if "phidp" in f.moments]
    declared = {f.moments["phidp"].fold_deg for f in usable if "phidp" in f.moments}
    if declared != {360.0} or not folds_at_half_turn(phases, reliable):
        return list(usable)
    read_as["phidp"] = "folded at 180°, as its jumps tell"
    return [
        replace(f, moments={**f.moments, "phidp": replace(f.moments["phidp"], fold_deg=HALF_TURN_DEG)})
        if "phidp" in f.moments else f
        for f in usable
    ]  # fmt: skip


def _reliable(fields: SweepFields) -> Mask:
    """Return the gates (a, r) whose phase is that of precipitation: of correlated echo above the noise."""
    out = np.isfinite(fields.moments["phidp"].values)
    for name, least in (("zh", _RELIABLE_DBZ), ("rhohv", _RELIABLE_RHOHV)):
        if name in fields.moments:
            out &= fields.moments[name].values >= least
    return out


def _with_rays(sweep: RawSweep, left_out: Counter[str]) -> RawSweep:
    """Return the sweep with the rays that have angles, by azimuth."""
    has_angles = np.isfinite(sweep.azimuth_deg) & (np.abs(sweep.elevation_deg) <= _STEEPEST_DEG)
    left_out.update({"rays without angles": int((~has_angles).sum())} if not has_angles.all() else {})
    order = np.argsort(np.mod(sweep.azimuth_deg, 360), kind="stable")
    return sweep.with_rays(order[has_angles[order]])


def _no_usable_sweeps(
    having: Sequence[SweepFields], found: Sequence[SweepFields], wanted: Sequence[str], path: Path
) -> BadInput:
    if having:
        modes = ", ".join(sorted({fields.sweep.mode for fields in having}))
        return BadInput(f"the sweeps do not rotate in azimuth ({modes})", path, "give volumes of PPI sweeps")
    empty = [w.upper() for w in wanted if not any(w in fields.moments for fields in found)]
    if len(empty) == len(wanted) or "ZH" in empty:
        return BadInput(f"{' and '.join(empty)} without a value in any sweep: all is no data", path, "leave it out")
    if empty:
        fix = f"remove {' and '.join(empty)} from --variables, or leave the file out"
        return BadInput(f"{' and '.join(empty)} without a value in any sweep", path, fix)
    together = " and ".join(w.upper() for w in wanted)
    return BadInput(f"no sweep has {together} together", path, "choose fewer with --variables")


def _to_sweep(fields: SweepFields, tells_unseen: bool) -> Sweep:
    raw = fields.sweep
    near = np.flatnonzero(raw.range_m <= _BEYOND_M)
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


def _without_votes(sweeps: Sequence[Sweep], fields: Sequence[SweepFields]) -> list[Sweep]:
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


def _start(fields: Sequence[SweepFields], path: Path) -> np.datetime64:
    """Return the time of the first ray, to a second; times an hour from the median are not of the volume."""
    times = np.concatenate([one.sweep.time for one in fields])
    known = times[~np.isnat(times)].astype("datetime64[ms]").astype(np.int64)
    if not len(known):
        raise BadInput("no time of the rays", path, "write the time of every ray")
    middle = np.median(known)
    near = known[np.abs(known - middle) <= _NEAR_MEDIAN / np.timedelta64(1, "ms")]
    return np.datetime64(round(int(near.min()) / 1000), "s")
