"""Choose the fields of sweeps: their names in the file, units, codes for missing data, and where they were sampled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.codes import without_codes
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep
from polarcast.data.ingest.volumes.units import convert_of, converted, is_percent
from polarcast.data.ingest.volumes.volume import FIELDS, Mask, candidates, find_names

SAME_ELEVATION_DEG = 0.3
"""Sweeps within it look at the same gates, as the two cuts of NEXRAD's lowest elevations."""
_ECHO_DBZ, _ECHO_GATES = 20.0, 50
_LARGEST_RATIO, _MOST_VALUES = 1.1, 0.99
"""Correlation coefficients of noise may exceed the first number; those of most gates do not."""
_NAMED = "--variable"
_FEWEST_SAMPLES = 12
"""Values at so many places have a common distance by chance in one of thousands of sweeps."""


@dataclass(frozen=True)
class SweepFields:
    """A sweep with the fields that it has, by standard name, and their names in the file."""

    sweep: RawSweep
    moments: dict[str, Moment]
    names: dict[str, str]


def field_names(
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


def with_true_units(
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


def fields_of(
    sweeps: Sequence[RawSweep],
    names: Mapping[str, tuple[str, ...]],
    wanted: Sequence[str],
    path: Path,
    left_out: Counter[str],
) -> list[SweepFields]:
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
        out.append(SweepFields(sampled, dict(sampled.moments), chosen))
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
