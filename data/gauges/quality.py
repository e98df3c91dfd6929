"""Quality control of gauges by the gauges alone, so that a radar's error can't decide which gauges count.

The rules are conservative, as an interval left out because the radar's rain was local is lost, and a wrong one counts
once. They follow those of hourly networks (Lewis et al. 2021, Environ. Model. Softw. 144, 105169).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.gauges.gauge import FLAGS, RANGE, SPIKE, STUCK, ZERO, Gauge
from polarcast.data.gauges.places import distances_km

Real = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Hours = npt.NDArray[np.int64]
"""Hours since 1970, ascending, (n,)."""
_DECIMALS = 4
"""Decimals at which amounts are compared; sums of tips differ in rounding."""


@dataclass(frozen=True)
class QualityRules:
    """Limits of the quality control.

    Attributes:
        most_mm_per_root_hour: Largest amount is this times hours^0.475, the envelope of the world's records (Jennings
            1950, Mon. Weather Rev. 78, 4–5: 422 mm); half of it.
        stuck_repeats: Equal nonzero amounts in a row that count as stuck, if larger than `stuck_steps` steps of the
            gauge's resolution. Smaller ones repeat by chance in even rain, and count as stuck after
            `stuck_small_repeats`.
        neighbor_km: Distance of neighbors.
        fewest_neighbors: Number of neighbors without which no comparison is made.
        wet_mm: Amount in an hour that all neighbors exceed where a zero is isolated; and their median exceeds twice it.
        spike_mm: Amount in an hour that is a spike where all neighbors have at most `dry_mm`.
        dry_mm: See `spike_mm`.
    """

    most_mm_per_root_hour: float = 211.0
    stuck_repeats: int = 6
    stuck_steps: float = 3.0
    stuck_small_repeats: int = 36
    neighbor_km: float = 20.0
    fewest_neighbors: int = 3
    wet_mm: float = 2.0
    spike_mm: float = 20.0
    dry_mm: float = 1.0


def check_quality(gauges: Sequence[Gauge], rules: QualityRules | None = None) -> list[Gauge]:
    """Return gauges with flags at the intervals that do not count.

    Args:
        gauges: Gauges of one region and time.
        rules: Limits.
    """
    rules = rules or QualityRules()
    alone = [_alone(gauge, rules) for gauge in gauges]
    return _beside_neighbors(alone, rules) if len(alone) > rules.fewest_neighbors else alone


def quality_table(gauges: Sequence[Gauge]) -> list[dict[str, Any]]:
    """Return a row per station: place, period, number of intervals, used ones, flagged ones by reason, total in mm."""
    rows = []
    for gauge in gauges:
        used = gauge.counts
        rows.append({
            "station": gauge.station,
            "latitude": round(gauge.latitude, 6),
            "longitude": round(gauge.longitude, 6),
            "from": str(gauge.starts[0]) if len(gauge) else None,
            "to": str(gauge.ends[-1]) if len(gauge) else None,
            "minutes": sorted({round(float(m), 3) for m in gauge.minutes}),
            "intervals": len(gauge),
            "used": int(used.sum()),
            "flagged": {reason: int((gauge.flags == reason).sum()) for reason in FLAGS},
            "total_mm": round(float(gauge.mm[used].sum()), 3),
        })  # fmt: skip
    return rows


def _alone(gauge: Gauge, rules: QualityRules) -> Gauge:
    """Flag amounts that are out of range or stuck."""
    most = rules.most_mm_per_root_hour * (gauge.minutes / 60) ** 0.475
    checked = gauge.flagged((gauge.mm < 0) | (gauge.mm > most), RANGE)
    return checked.flagged(_stuck(checked, rules), STUCK)


def _stuck(gauge: Gauge, rules: QualityRules) -> Mask:
    mm = np.round(gauge.mm, _DECIMALS)
    out = np.zeros(len(mm), np.bool_)
    positive = np.unique(mm[gauge.counts & (mm > 0)])
    if not len(positive):
        return out
    resolution = min(float(positive[0]), *np.diff(positive).tolist()) if len(positive) > 1 else float(positive[0])
    edges = np.flatnonzero(np.concatenate([[True], mm[1:] != mm[:-1], [True]]))
    for start, stop in pairwise(edges.tolist()):
        is_small = mm[start] <= rules.stuck_steps * resolution + 10.0**-_DECIMALS
        repeats = rules.stuck_small_repeats if is_small else rules.stuck_repeats
        if mm[start] > 0 and stop - start >= repeats:
            out[start:stop] = True
    return out


def _beside_neighbors(gauges: Sequence[Gauge], rules: QualityRules) -> list[Gauge]:
    """Flag hours without rain amid rain, and hours of heavy rain amid none."""
    hours = _hours(gauges)
    if hours is None:
        return list(gauges)
    names, sums = hours
    apart = distances_km(np.array([g.latitude for g in gauges]), np.array([g.longitude for g in gauges]))
    np.fill_diagonal(apart, np.inf)
    return [_compared(gauge, names, sums[i], sums[apart[i] <= rules.neighbor_km], rules) for i, gauge in
            enumerate(gauges)]  # fmt: skip


def _compared(gauge: Gauge, hours: Hours, own: Real, others: Real, rules: QualityRules) -> Gauge:
    """Compare the sums of some hours, (hours,), with those of the neighbors, (n, hours)."""
    enough = np.isfinite(others).sum(0) >= rules.fewest_neighbors
    if not enough.any():
        return gauge
    with np.errstate(invalid="ignore"):
        least, most = np.fmin.reduce(others), np.fmax.reduce(others)
        middle = np.full(len(own), np.nan)
        middle[enough] = np.nanmedian(others[:, enough], axis=0)
        is_zero = enough & (own == 0) & (least > rules.wet_mm) & (middle > 2 * rules.wet_mm)
        is_spike = enough & (own >= rules.spike_mm) & (most <= rules.dry_mm)
    at = np.searchsorted(hours, _hour_of(gauge))
    return gauge.flagged(is_zero[at], ZERO).flagged(is_spike[at], SPIKE)


def _hour_of(gauge: Gauge) -> Hours:
    """Return the UTC hour that each interval ends in, in hours since 1970."""
    hours: Hours = -(-gauge.ends.astype(np.int64) // 3600) - 1
    return hours


def _hours(gauges: Sequence[Gauge]) -> tuple[Hours, Real] | None:
    """Return the hours that have an interval, and their sums, (stations, hours); NaN where not all of one is known.

    Longer intervals, and those across an hour's end, give no sum.
    """
    ends = [_hour_of(gauge) for gauge in gauges if len(gauge)]
    if not ends:
        return None
    names = np.unique(np.concatenate(ends))
    sums = np.full((len(gauges), len(names)), np.nan)
    for i, gauge in enumerate(gauges):
        used = gauge.counts & (gauge.minutes <= 60)
        hour = _hour_of(gauge)
        used &= gauge.starts.astype(np.int64) // 3600 == hour
        at = np.searchsorted(names, hour[used])
        filled, mm = np.zeros(len(names)), np.zeros(len(names))
        np.add.at(filled, at, gauge.minutes[used])
        np.add.at(mm, at, gauge.mm[used])
        sums[i] = np.where(np.isclose(filled, 60), mm, np.nan)
    return names, sums
