"""Make a `Volume` of the sweeps that a file has: choose fields, convert units, and leave out what was not measured."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.codes import without_codes
from polarcast.data.ingest.report import SWEEPS
from polarcast.data.ingest.volumes.phase import HALF_TURN_DEG, folds_at_half_turn
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.site import placed
from polarcast.data.ingest.volumes.units import convert_of, converted, is_percent
from polarcast.data.ingest.volumes.volume import FIELDS, Mask, RadarSite, Sweep, Volume, candidates, find_names

SAME_ELEVATION_DEG = 0.3
"""Sweeps within it look at the same gates, as the two cuts of NEXRAD's lowest elevations."""
_SAME_TIME = np.timedelta64(180, "s")
_NEAR_MEDIAN = np.timedelta64(3600, "s")
_BEYOND_M = 200e3
_LEAST_SPACING_M = 1.0
_LEAST_REACH_M = 1e3
_STEEPEST_DEG = 90.0
_RELIABLE_DBZ, _RELIABLE_RHOHV = 15.0, 0.9
_ECHO_DBZ, _ECHO_GATES = 20.0, 50
_LARGEST_RATIO, _MOST_VALUES = 1.1, 0.99
"""Correlation coefficients of noise may exceed the first number; those of most gates do not."""
_NAMED = "--variable"
_FEWEST_SAMPLES = 12
"""Values at so many places have a common distance by chance in one of thousands of sweeps."""


@dataclass(frozen=True)
class _Fields:
    """A sweep with the fields that it has, by standard name, and their names in the file."""

    sweep: RawSweep
    moments: dict[str, Moment]
    names: dict[str, str]


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
    names = _names(sweeps, wanted, named or {}, path)
    sweeps = _with_true_units(sweeps, names, read_as)
    found = _fields(sweeps, names, wanted, path, left_out)
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


def _usable(found: Sequence[_Fields], wanted: Sequence[str], left_out: Counter[str], path: Path) -> list[_Fields]:
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


def _names_of(usable: Sequence[_Fields]) -> dict[str, str]:
    """Return the name in the file of each field; all of them, the most frequent first, if sweeps differ."""
    counts = {ours: Counter(f.names[ours] for f in usable if ours in f.names) for ours in FIELDS}
    return {ours: ", ".join(name for name, _ in count.most_common()) for ours, count in counts.items() if count}


def _with_fold(usable: Sequence[_Fields], read_as: dict[str, str]) -> list[_Fields]:
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


def _reliable(fields: _Fields) -> Mask:
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


def _names(
    sweeps: Sequence[RawSweep], wanted: Sequence[str], named: Mapping[str, str], path: Path
) -> dict[str, tuple[str, ...]]:
    """Return the names in the file that each field may have, the preferred first; those with values before others.

    Raises:
        BadInput: A required or a named field is missing, or its units are unknown.
    """
    standard = {name: moment.standard_name for sweep in sweeps for name, moment in sweep.moments.items()}
    with_values = {n for sweep in sweeps for n, m in sweep.moments.items() if np.isfinite(m.values).any()}
    found = {
        ours: tuple(name for name in names if name in with_values) or names
        for ours, names in candidates(dict(sorted(standard.items()))).items()
    } | _given_names(sorted(standard), named, path)
    if missing := [w for w in wanted if w not in found]:
        unusable = {name: why for sweep in sweeps for name, why in sweep.unusable.items()}
        if name := find_names(list(unusable)).get(missing[0]):
            raise BadInput(f"{name} can't be used: {unusable[name]}", path, "remove it from --variables, or mend it")
        raise BadInput(
            f"the volume has no {missing[0].upper()}",
            path,
            f"remove it from --variables, name it ({_NAMED} {missing[0]}=NAME), or give files with it "
            f"(present: {', '.join(sorted(standard))})",
        )
    return {ours: _with_known_units(ours, found[ours], sweeps, path) for ours in FIELDS if ours in found}


def _given_names(available: Sequence[str], named: Mapping[str, str], path: Path) -> dict[str, tuple[str, ...]]:
    """Return the names of the fields that were given. Raises BadInput for one that the file does not have."""
    lower = {name.lower(): name for name in available}
    users = {
        name.lower(): [ours for ours, other in named.items() if other.lower() == name.lower()]
        for name in named.values()
    }
    for ours, name in named.items():
        if len(users[name.lower()]) > 1:
            raise BadInput(f"{name} is given for {' and for '.join(users[name.lower()])}", path, "give each its own")
        if name.lower() not in lower:
            raise BadInput(f"no field {name} for {ours}", path, f"give {_NAMED} {ours}= one of: {', '.join(available)}")
    return {ours: (lower[name.lower()],) for ours, name in named.items()}


def _with_known_units(ours: str, names: tuple[str, ...], sweeps: Sequence[RawSweep], path: Path) -> tuple[str, ...]:
    """Return the names whose units are known. Raises BadInput if none is."""
    errors: dict[str, BadInput] = {}
    for name in names:
        for units in {sweep.moments[name].units for sweep in sweeps if name in sweep.moments}:
            try:
                convert_of(ours, units, path)
            except BadInput as error:
                errors[name] = error
    if len(errors) == len(names):
        raise errors[names[0]]
    return tuple(name for name in names if name not in errors)


def _with_true_units(
    sweeps: Sequence[RawSweep], names: Mapping[str, tuple[str, ...]], read_as: dict[str, str]
) -> list[RawSweep]:
    """Return the sweeps; a correlation coefficient in % whose values are ratios has the units of ratios."""
    out = list(sweeps)
    for name in names.get("rhohv", ()):
        having = [n for n, s in enumerate(out) if name in s.moments and is_percent(s.moments[name].units)]
        values = np.concatenate([np.zeros(0), *(out[n].moments[name].values.ravel() for n in having)])
        values = values[np.isfinite(values)]
        if not len(values) or np.quantile(values, _MOST_VALUES) > _LARGEST_RATIO:
            continue
        read_as["rhohv"] = "a ratio, though its units are %"
        for n in having:
            out[n] = replace(out[n], moments={**out[n].moments, name: replace(out[n].moments[name], units="")})
    return out


def _fields(
    sweeps: Sequence[RawSweep],
    names: Mapping[str, tuple[str, ...]],
    wanted: Sequence[str],
    path: Path,
    left_out: Counter[str],
) -> list[_Fields]:
    """Return every sweep with its fields by standard name, in the units of `Sweep`."""
    reasons = [dict[str, Counter[str]]() for _ in sweeps]
    sweeps = [_in_standard_units(s, names, path, why) for s, why in zip(sweeps, reasons, strict=True)]
    sweeps = _without_codes(sweeps, names, reasons)
    out = []
    for sweep, chosen, why in zip(sweeps, _chosen(sweeps, names, wanted), reasons, strict=True):
        for theirs in chosen.values():
            left_out.update(why.get(theirs, {}))
        sampled = _where_sampled(
            replace(sweep, moments={ours: sweep.moments[theirs] for ours, theirs in chosen.items()})
        )
        out.append(_Fields(sampled, dict(sampled.moments), chosen))
    return out


def _chosen(
    sweeps: Sequence[RawSweep], names: Mapping[str, tuple[str, ...]], wanted: Sequence[str]
) -> list[dict[str, str]]:
    """Return the name of each field in each sweep: the preferred one of those that most sweeps have, else the next.

    One volume has one kind of processing so far as its sweeps have it.
    """
    measured = [
        {n for all_names in names.values() for n in all_names if n in s.moments and _is_measured(n, s, sweeps)}
        for s in sweeps
    ]
    votes = Counter[str]()
    for sweep, found in zip(sweeps, measured, strict=True):
        if sweep.is_ppi and all(found & set(names[w]) for w in wanted):
            has_echo = _has_echo(sweep, names.get("zh", ()))
            votes.update(sweep.moments.keys() if not has_echo else found)
    order = {ours: sorted(all_names, key=lambda n: -votes[n]) for ours, all_names in names.items()}
    return [
        {ours: next(n for n in all_names if n in found) for ours, all_names in order.items() if found & set(all_names)}
        for found in measured
    ]


def _has_echo(sweep: RawSweep, names: Sequence[str]) -> bool:
    """Whether a sweep has echo above the noise, which processing that removes noise would have kept."""
    values = [sweep.moments[name].values for name in names if name in sweep.moments]
    return any(int((one >= _ECHO_DBZ).sum()) >= _ECHO_GATES for one in values)


def _in_standard_units(
    sweep: RawSweep, names: Mapping[str, tuple[str, ...]], path: Path, reasons: dict[str, Counter[str]]
) -> RawSweep:
    """Return the sweep with the named fields in the units of `Sweep`; what is beyond their bounds is unseen."""
    moments = dict(sweep.moments)
    for name, theirs in ((ours, theirs) for ours, all_names in names.items() for theirs in all_names):
        if theirs not in moments:
            continue
        moment = moments[theirs]
        values, beyond = converted(moment.values, name, moment.units, path)
        if beyond.any():
            reasons.setdefault(theirs, Counter())[f"{name} beyond its range"] = int(beyond.sum())
        moments[theirs] = replace(_without(moment, beyond), values=values, units="")
    return replace(sweep, moments=moments)


def _without_codes(
    sweeps: Sequence[RawSweep], names: Mapping[str, tuple[str, ...]], reasons: Sequence[dict[str, Counter[str]]]
) -> list[RawSweep]:
    """Return the sweeps without the codes for missing data that the file does not declare; see `codes`."""
    out = list(sweeps)
    for name, theirs in ((ours, theirs) for ours, all_names in names.items() for theirs in all_names):
        having = [n for n, sweep in enumerate(out) if theirs in sweep.moments]
        values = np.concatenate([out[n].moments[theirs].values.ravel() for n in having])
        for code in without_codes(values, name)[1]:
            for n in having:
                moment = out[n].moments[theirs]
                is_code = moment.values == np.float32(code)
                counts = reasons[n].setdefault(theirs, Counter())
                counts.update({f"{name} of {code:g}, taken as missing": int(is_code.sum())} if is_code.any() else {})
                out[n] = replace(out[n], moments={**out[n].moments, theirs: _without(moment, is_code)})
    return out


def _without(moment: Moment, gates: Mask) -> Moment:
    """Return the moment with gates that have no value, and that were not observed if the file tells such ones."""
    if not gates.any():
        return moment
    unseen = None if moment.unseen is None else moment.unseen | gates
    return replace(moment, values=np.where(gates, np.float32(np.nan), moment.values), unseen=unseen)


def _where_sampled(sweep: RawSweep) -> RawSweep:
    """Return the sweep with the gates and rays at which the reflectivity was sampled.

    Programs put fields of 1 km, or of 1°, into tables of 250 m or 0.5°, and fill what is between.
    """
    zh = sweep.moments.get("zh")
    if zh is None or zh.unseen is not None:
        return sweep
    valid = np.isfinite(zh.values)
    first, step = _samples(np.asarray(valid.any(0)))
    sweep = sweep.with_gates(slice(first, None, step)) if step > 1 else sweep
    first, step = _samples(np.asarray(valid.any(1)))
    return sweep.with_rays(np.arange(first, len(sweep.azimuth_deg), step)) if step > 1 else sweep


def _samples(valid: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first place and the distance of places with values, if they are evenly spaced; else (0, 1)."""
    places = np.flatnonzero(valid)
    step = int(np.gcd.reduce(np.diff(places))) if len(places) >= _FEWEST_SAMPLES else 1
    return (int(places[0]) % step, step) if step > 1 else (0, 1)


def _is_measured(name: str, sweep: RawSweep, sweeps: Sequence[RawSweep]) -> bool:
    """Whether a sweep measured a field: it has values, or it saw no echo.

    A field without values was not recorded if the sweep has values of other fields, or if another sweep of the same
    elevation has values: formats with one table for all sweeps fill it with missing data.
    """
    moment = sweep.moments[name]
    if np.isfinite(moment.values).any():
        return True
    if moment.unseen is not None and moment.unseen.any():
        return not moment.unseen.all()
    others = (s for s in sweeps if s is not sweep and abs(s.elevation - sweep.elevation) <= SAME_ELEVATION_DEG)
    return moment.has_no_echo or not any(_has_values(s) for s in (sweep, *others))


def _has_values(sweep: RawSweep) -> bool:
    return any(np.isfinite(moment.values).any() for moment in sweep.moments.values())


def _no_usable_sweeps(
    having: Sequence[_Fields], found: Sequence[_Fields], wanted: Sequence[str], path: Path
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


def _to_sweep(fields: _Fields, tells_unseen: bool) -> Sweep:
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
