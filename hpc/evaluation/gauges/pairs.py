"""Pairs of a gauge's amount and the estimates of it: frames summed to the gauge's own interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from polarcast.data.gauges.gauge import Gauge, Real, Times
from polarcast.hpc.evaluation.gauges.patches import EventRates, Mask, Numbers, Patch, Rates

PIXEL, MEAN, BEST = "pixel", "mean of 3 × 3", "best of 3 × 3"
MODES = (PIXEL, MEAN, BEST)
LEAST_SHARE = 0.9
"""Share of an interval's frames in which a pixel must be observed."""
FEWEST_PIXELS = 5
"""Pixels of the nine around a gauge that must be observed."""


@dataclass(frozen=True)
class Pairs:
    """Amounts of gauges with all estimates of them, in order of station and time.

    Attributes:
        stations: Names of the gauges that have a pair.
        station: Position of each pair's gauge in `stations`, (p,).
        ends: Ends of the intervals, datetime64[s], (p,).
        minutes: Length of all intervals.
        gauge: Amounts of the gauges in mm, (p,).
        range_km: Distances from the radar, (p,); NaN of products of several radars.
        estimates: By estimator, (k, 3, p) in mm of each seed by `MODES`.
        places: Latitude and longitude of each station, (s, 2).
        left_out: Number of intervals with a gauge's amount that do not count, by reason.
    """

    stations: tuple[str, ...]
    station: Numbers
    ends: npt.NDArray[np.datetime64]
    minutes: float
    gauge: Real
    range_km: Real
    estimates: dict[str, Real]
    places: Real
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.gauge)

    @property
    def days(self) -> npt.NDArray[np.datetime64]:
        """UTC day of each pair; an interval that ends at midnight belongs to the day before."""
        return (self.ends - np.timedelta64(1, "s")).astype("datetime64[D]")


def pairs_of(
    gauges: Sequence[Gauge], events: Sequence[EventRates], seeds: Mapping[str, Sequence[str]], step_minutes: float
) -> list[Pairs]:
    """Match the intervals of gauges with frames, for each length of interval.

    An estimate of an interval is the mean rate of the frames whose times are in (start, end], times the length of the
    interval: a frame's rate holds for the step before its time. A pixel counts with `LEAST_SHARE` of the frames that
    the interval should have at their regular step. An interval counts if every estimator has the gauge's own pixel and
    `FEWEST_PIXELS` of the nine around it, so that all of them are compared on the same intervals. Of several grids over
    a gauge, the one whose centre is nearest counts.

    Args:
        gauges: Gauges, checked.
        events: Rates around them.
        seeds: Names in `EventRates.rates` of each estimator, one for each seed.
        step_minutes: Time between frames.
    """
    grids: dict[str, list[EventRates]] = {}
    for event in events:
        grids.setdefault(event.place, []).append(event)
    found = [_on_grid(gauges, parts, seeds, step_minutes) for parts in grids.values()]
    rows = [row for part, _ in found for row in part]
    lost: dict[str, int] = {}
    for _, reasons in found:
        for reason, number in reasons.items():
            lost[reason] = lost.get(reason, 0) + number
    lengths = sorted({row.minutes for row in rows})
    return [_joined(gauges, [row for row in rows if row.minutes == m], lost) for m in lengths]


@dataclass(frozen=True)
class _Matched:
    """Intervals of one gauge and length on one grid; see `Pairs`."""

    gauge: int
    minutes: float
    centre_km: float
    range_km: float
    ends: npt.NDArray[np.datetime64]
    mm: Real
    estimates: dict[str, Real]


@dataclass(frozen=True)
class _FrameSpan:
    """Intervals of one gauge and length on one grid: frames from `begin` to before `end`, of `expected` ones."""

    gauge: Gauge
    number: int
    place: int
    minutes: float
    begin: Numbers
    end: Numbers
    expected: Numbers


def _on_grid(
    gauges: Sequence[Gauge], parts: Sequence[EventRates], seeds: Mapping[str, Sequence[str]], step_minutes: float
) -> tuple[list[_Matched], dict[str, int]]:
    """Match the gauges with the events of one grid, whose frames are put in order of time."""
    patch = parts[0].patch
    times, first = np.unique(np.concatenate([part.times for part in parts]), return_index=True)
    windows = [
        window
        for place, number in enumerate(patch.gauges.tolist())
        for window in _windows(gauges[number], number, place, times, step_minutes)
    ]
    amounts: list[dict[str, Real]] = [{} for _ in windows]
    for name in (name for group in seeds.values() for name in group):
        sums = _sums(np.concatenate([part.rates[name] for part in parts])[first])
        for found, window in zip(amounts, windows, strict=True):
            found[name] = _amounts(sums, window)
    lost: dict[str, int] = {}
    rows = [_matched(w, found, seeds, patch, lost) for w, found in zip(windows, amounts, strict=True)]
    return rows, lost


def _windows(gauge: Gauge, number: int, place: int, times: Times, step_minutes: float) -> list[_FrameSpan]:
    """Return the intervals of a gauge that have a frame, by their length."""
    used = gauge.chosen(gauge.counts)
    begin, end = (np.searchsorted(times, edge, side="right") for edge in (used.starts, used.ends))
    out = []
    for minutes in np.unique(used.minutes[end > begin]).tolist():
        which = np.flatnonzero((used.minutes == minutes) & (end > begin))
        part = used.chosen(np.isin(np.arange(len(used)), which))
        # Frames are regular from the one that is there, so that 15 minutes have two or three of 6 minutes.
        step, there = 60 * step_minutes, times[begin[which]].astype(np.int64)
        before = np.floor((part.starts.astype(np.int64) - there) / step)
        expected = np.floor((part.ends.astype(np.int64) - there) / step) - before
        out.append(_FrameSpan(part, number, place, minutes, begin[which], end[which], expected.astype(np.int64)))
    return out


def _matched(
    window: _FrameSpan, amounts: dict[str, Real], seeds: Mapping[str, Sequence[str]], patch: Patch, lost: dict[str, int]
) -> _Matched:
    """Keep the intervals that count, and count the others by reason."""
    usable = np.ones(len(window.gauge), np.bool_)
    for name, group in seeds.items():
        has_own = np.all([np.isfinite(amounts[n][:, 0]) for n in group], 0)
        has_nine = np.all([np.isfinite(amounts[n]).sum(1) >= FEWEST_PIXELS for n in group], 0)
        for reason, lacks in ((f"few frames of {name}", ~has_own), (f"few pixels of {name}", ~has_nine)):
            lost[reason] = lost.get(reason, 0) + int((usable & lacks).sum())
            usable = usable & ~lacks
    mm, place = window.gauge.mm[usable], window.place
    estimates = {name: np.stack([_modes(amounts[n][usable], mm) for n in group]) for name, group in seeds.items()}
    return _Matched(window.number, window.minutes, float(patch.centre_km[place]), float(patch.range_km[place]),
                    window.gauge.ends[usable], mm, estimates)  # fmt: skip


def _sums(rates: Rates) -> tuple[Real, Numbers]:
    """Return running sums of the rates and of the observed frames from the first frame on, (t + 1, g, 9)."""
    seen: Mask = np.isfinite(rates)
    zero = np.zeros((1, *rates.shape[1:]))
    total = np.concatenate([zero, np.cumsum(np.where(seen, rates, 0).astype(np.float64), 0)])
    return total, np.concatenate([zero.astype(np.int64), np.cumsum(seen, 0, dtype=np.int64)])


def _amounts(sums: tuple[Real, Numbers], window: _FrameSpan) -> Real:
    """Return the amounts at the nine pixels of a gauge, (n, 9) in mm; NaN with too few frames."""
    total, seen = (values[window.end, window.place] - values[window.begin, window.place] for values in sums)
    enough = seen >= LEAST_SHARE * window.expected[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(enough & (seen > 0), np.maximum(total, 0) / seen * window.minutes / 60, np.nan)


def _modes(amounts: Real, mm: Real) -> Real:
    """Return the amount at the pixel, the mean, and the one nearest to the gauge's, (3, n)."""
    if not len(mm):
        return np.zeros((len(MODES), 0))
    best = np.take_along_axis(amounts, np.nanargmin(np.abs(amounts - mm[:, None]), 1)[:, None], 1)[:, 0]
    return np.stack([amounts[:, 0], np.nanmean(amounts, 1), best])


def _joined(gauges: Sequence[Gauge], rows: Sequence[_Matched], lost: dict[str, int]) -> Pairs:
    """Join the rows of one length; of an interval on several grids, keep the one nearest to a centre."""
    gauge, ends, centre = (
        np.concatenate([np.broadcast_to(value(row), len(row.mm)) for row in rows])
        for value in (lambda r: r.gauge, lambda r: r.ends, lambda r: r.centre_km)
    )
    order = np.lexsort((centre, ends, gauge))
    is_again = (np.diff(gauge[order]) == 0) & (np.diff(ends[order].astype(np.int64)) == 0)
    keep = order[np.concatenate([[True], ~is_again])] if len(order) else order
    numbers, station = np.unique(gauge[keep], return_inverse=True)
    chosen = [gauges[number] for number in numbers.tolist()]
    return Pairs(
        stations=tuple(g.station for g in chosen),
        station=station,
        ends=ends[keep],
        minutes=rows[0].minutes,
        gauge=np.concatenate([row.mm for row in rows])[keep],
        range_km=np.concatenate([np.full(len(row.mm), row.range_km) for row in rows])[keep],
        estimates={
            name: np.concatenate([row.estimates[name] for row in rows], -1)[..., keep] for name in rows[0].estimates
        },
        places=np.array([(g.latitude, g.longitude) for g in chosen]).reshape(-1, 2),
        left_out={reason: number for reason, number in lost.items() if number},
    )


def chosen_pairs(pairs: Pairs, which: Mask) -> Pairs:
    """Return some of the pairs; stations without any stay in the list."""
    return replace(
        pairs, station=pairs.station[which], ends=pairs.ends[which], gauge=pairs.gauge[which],
        range_km=pairs.range_km[which], estimates={n: v[..., which] for n, v in pairs.estimates.items()},
    )  # fmt: skip
