"""Put the fields of a sweep onto one table, where files give them other gates or rays, or a dataset each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep
from polarcast.data.ingest.volumes.volume import find_names

SAME_ANGLE_DEG = 0.15
"""Sweeps of one volume with fields in several files have elevations that differ by less."""
_SAME_SWEEP = np.timedelta64(30, "s")
"""Fields of one sweep start within it, as their files tell; of several such sweeps the nearest in time is it."""
_MOST_RATIO = 8.0
"""Largest ratio of the spacings of gates, or of rays, of the fields of one sweep."""
_LEAST_COMMON = 0.9
Places = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


def with_joined_moments(sweeps: Sequence[RawSweep]) -> list[RawSweep]:
    """Return the sweeps; those of one elevation, time and geometry whose fields differ are one sweep."""
    groups: list[list[RawSweep]] = []
    for sweep in sweeps:
        same = [group for group in groups if all(is_same_sweep(one, sweep) for one in group)]
        nearest = min(same, key=lambda group: _apart(group[0], sweep), default=None)
        groups.append([sweep]) if nearest is None else nearest.append(sweep)
    return [group[0] if len(group) == 1 else on_one_table(group) for group in groups]


def is_same_sweep(first: RawSweep, second: RawSweep) -> bool:
    """Whether two sweeps are one with its fields in two places: of one scan, and without a common field."""
    if set(first.moments) & set(second.moments) or not (first.moments and second.moments):
        return False
    is_alike = (first.mode, first.flaw) == (second.mode, second.flaw)
    is_of_one_scan = len({sweep.task for sweep in (first, second) if sweep.task}) < 2
    is_of_one_time = bool(_apart(first, second) <= _SAME_SWEEP)
    return is_alike and is_of_one_scan and is_of_one_time and fits(first, second)


def _apart(first: RawSweep, second: RawSweep) -> np.timedelta64:
    """Return the time between the starts of two sweeps; 0 if one is not known."""
    between = np.abs(first.start - second.start)
    return np.timedelta64(0, "ms") if np.isnat(between) else between


def on_one_table(sweeps: Sequence[RawSweep], unusable: Mapping[str, str] | None = None) -> RawSweep:
    """Return the fields of one sweep on the rays of the reflectivity, and on the finest gates along its range.

    Values are those of the nearest ray and gate; where there is none, they are unseen. Fields that have other rays or
    gates altogether can't be used.

    Args:
        sweeps: Parts of a sweep with some of its fields each.
        unusable: Further fields that can't be used, and why.
    """
    with_fields = [sweep for sweep in sweeps if sweep.moments]
    reasons = {name: why for sweep in sweeps for name, why in sweep.unusable.items()} | dict(unusable or {})
    if not with_fields:
        empty = np.zeros(0, np.float32)
        table = next(iter(sweeps), RawSweep(empty, empty, empty, np.zeros(0, "datetime64[ms]"), {}))
        return replace(table, unusable=reasons)
    main = _main(with_fields)
    fitting = [sweep for sweep in with_fields if fits(main, sweep)]
    ranges = _finest(main.range_m, [sweep.range_m for sweep in fitting])
    moments: dict[str, Moment] = {}
    left_out: dict[str, int] = {}
    for sweep in with_fields:
        for name, moment in sweep.moments.items():
            if name in moments:
                left_out[f"{name}: a second one in the sweep"] = 1
            elif fits(main, sweep):
                moments[name] = _moved(moment, sweep, main, ranges)
            else:
                reasons[name] = f"rays or gates unlike those of {next(iter(main.moments))}"
        for reason, number in sweep.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + number
    return replace(main, range_m=ranges, moments=moments, left_out=left_out, unusable=reasons)


def _main(sweeps: Sequence[RawSweep]) -> RawSweep:
    """Return the part with the reflectivity; else the first one."""
    name = find_names([name for sweep in sweeps for name in sweep.moments]).get("zh")
    return next((sweep for sweep in sweeps if name in sweep.moments), sweeps[0])


def fits(first: RawSweep, second: RawSweep) -> bool:
    """Whether the fields of two sweeps can be put onto one table: at one elevation, with a ray for most rays."""
    if abs(first.elevation - second.elevation) >= SAME_ANGLE_DEG:
        return False
    same_gates, same_rays = _same(first.range_m, second.range_m), _same(first.azimuth_deg, second.azimuth_deg)
    if same_gates and same_rays:
        return True
    gates, rays = ([_spacing(angles) for angles in pair] for pair in (
        (first.range_m, second.range_m), (_sorted_azimuths(first), _sorted_azimuths(second))
    ))  # fmt: skip
    if not same_gates and not _is_ratio(gates):
        return False
    return same_rays or (_is_ratio(rays) and bool((_rays(second, first)[1]).mean() >= _LEAST_COMMON))


def _same(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> bool:
    return first.shape == second.shape and np.array_equal(first, second, equal_nan=True)


def _is_ratio(spacings: Sequence[float]) -> bool:
    """Whether two spacings are known, and similar enough."""
    return min(spacings) > 0 and max(spacings) <= _MOST_RATIO * min(spacings)


def _spacing(places: npt.NDArray[np.floating]) -> float:
    """Return the usual distance of ascending places; 0 if it is not known."""
    steps = np.diff(places.astype(np.float64))
    return float(np.median(steps)) if len(steps) and (steps >= 0).all() else 0.0


def _sorted_azimuths(sweep: RawSweep) -> Reals:
    return np.sort(np.mod(sweep.azimuth_deg[np.isfinite(sweep.azimuth_deg)], 360).astype(np.float64))


def _finest(main: npt.NDArray[np.float32], all_ranges: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Return the gates of the finest spacing (r,), over the range of the main ones."""
    fine = min(all_ranges, key=_spacing)
    step, usual = _spacing(fine), _spacing(main)
    if not 0 < step < 0.75 * usual:
        return main
    first = np.ceil((main[0] - usual / 2 - fine[0]) / step)
    last = np.floor((main[-1] + usual / 2 - fine[0]) / step)
    return (fine[0] + step * np.arange(first, last + 1)).astype(np.float32)


def _moved(moment: Moment, sweep: RawSweep, main: RawSweep, ranges: npt.NDArray[np.float32]) -> Moment:
    """Return a field of a sweep on the rays of the main one and on the given gates."""
    if _same(sweep.azimuth_deg, main.azimuth_deg) and _same(sweep.range_m, ranges):
        return moment
    rays, has_ray = _rays(sweep, main)
    gates, has_gate = _gates(sweep.range_m, ranges)
    is_there = has_ray[:, None] & has_gate[None]
    values = np.where(is_there, moment.values[np.ix_(rays, gates)], np.float32(np.nan))
    unseen = np.zeros(values.shape, np.bool_) if moment.unseen is None else moment.unseen[np.ix_(rays, gates)]
    unseen = unseen | ~is_there
    return replace(moment, values=values, unseen=None if moment.unseen is None and is_there.all() else unseen)


def _rays(sweep: RawSweep, main: RawSweep) -> tuple[Places, npt.NDArray[np.bool_]]:
    """Return the nearest ray of a sweep to each of the main one, (a,), and whether it covers its centre."""
    if _same(sweep.azimuth_deg, main.azimuth_deg):
        return np.arange(len(main.azimuth_deg)), np.ones(len(main.azimuth_deg), np.bool_)
    azimuths = np.mod(sweep.azimuth_deg.astype(np.float64), 360)
    known = np.flatnonzero(np.isfinite(azimuths))
    order = known[np.argsort(azimuths[known], kind="stable")]
    around = np.concatenate([order[-1:], order, order[:1]])
    turns = np.concatenate([[-360.0], np.zeros(len(order)), [360.0]])
    wanted = np.mod(main.azimuth_deg.astype(np.float64), 360)
    places = _nearest(azimuths[around] + turns, wanted)
    off = np.abs(azimuths[around][places] + turns[places] - wanted)
    width = max(_spacing(_sorted_azimuths(one)) for one in (sweep, main))
    return around[places], np.asarray(off <= 0.6 * width)


def _gates(ranges: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> tuple[Places, npt.NDArray[np.bool_]]:
    """Return the nearest gate to each wanted one, (r,), and whether it covers its centre."""
    if _same(ranges, wanted):
        return np.arange(len(wanted)), np.ones(len(wanted), np.bool_)
    places = _nearest(ranges.astype(np.float64), wanted.astype(np.float64))
    return places, np.asarray(np.abs(ranges[places] - wanted) <= 0.51 * max(_spacing(ranges), _spacing(wanted)))


def _nearest(ascending: Reals, wanted: Reals) -> Places:
    """Return the position of the nearest of ascending numbers; any for NaN."""
    after = np.clip(np.searchsorted(ascending, wanted), 1, len(ascending) - 1)
    return np.where(wanted - ascending[after - 1] <= ascending[after] - wanted, after - 1, after)
