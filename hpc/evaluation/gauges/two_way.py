"""Intervals over days and stations, which are crossed: a storm reaches all gauges, a gauge sees all storms.

Resampling pairs would take them for independent. Resampling days keeps the errors that a storm gives all gauges, but
not those that a gauge has in all storms, such as its wind loss or the beam's height there; resampling stations the
reverse. The variance is therefore V(days) + V(stations) − V(days × stations), the two-way clustered one (Cameron,
Gelbach & Miller 2011, J. Bus. Econ. Stat. 29, 238–249, eq. 2.11), and at least that of days and that of stations alone.
Each of the three is the studentized bootstrap over these groups of `scores.stats.bootstrap`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from polarcast.hpc.evaluation.gauges.pairs import Pairs
from polarcast.hpc.evaluation.gauges.patches import Numbers
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.stats.bootstrap import LEVEL, Interval, Statistic, interval

DRAWS = 1_000
BOTH, DAYS, STATIONS, NONE = "days and stations", "days", "stations", "none"


@dataclass(frozen=True)
class Crossed:
    """Groups of pairs.

    Attributes:
        day: Position of each pair's day, (p,).
        station: Position of each pair's station, (p,).
        cell: Position of each pair's station-day, (p,).
    """

    day: Numbers
    station: Numbers
    cell: Numbers

    @classmethod
    def of(cls, pairs: Pairs) -> "Crossed":
        """Group pairs by UTC day, by station, and by both."""
        day = np.unique(pairs.days, return_inverse=True)[1]
        station = np.unique(pairs.station, return_inverse=True)[1]
        width = int(station.max(initial=0)) + 1
        return cls(day, station, np.unique(day * width + station, return_inverse=True)[1])

    @property
    def counts(self) -> tuple[int, int]:
        """Number of days and of stations."""
        return len(np.unique(self.day)), len(np.unique(self.station))


@dataclass(frozen=True)
class CrossedInterval:
    """An interval, and over which groups it is: `BOTH`, or one of them where the other has too few groups."""

    interval: Interval
    over: str = NONE


def crossed_interval(
    arms: Sequence[Array], statistic: Statistic, groups: Crossed, draws: int | None = None
) -> CrossedInterval:
    """Return the interval of a statistic of sums over pairs.

    Args:
        arms: Terms of each arm by seed and pair, (k, p, s).
        statistic: Function of the sums of all arms, concatenated along the last axis, (…, Σs).
        groups: Groups of the pairs.
        draws: Number of resamples over each kind of group; `DRAWS` by default.
    """
    draws = DRAWS if draws is None else draws
    by_day, by_station, by_cell = (
        interval([grouped(arm, index) for arm in arms], statistic, draws=draws)
        for index in (groups.day, groups.station, groups.cell)
    )
    days, stations = groups.counts
    if days == 1 or not math.isfinite(by_day.low):
        return CrossedInterval(by_station, STATIONS if math.isfinite(by_station.low) else NONE)
    if stations == 1 or not math.isfinite(by_station.low):
        return CrossedInterval(by_day, DAYS)
    both = by_cell.error**2 if math.isfinite(by_cell.error) else 0.0
    variance = max(by_day.error**2 + by_station.error**2 - both, by_day.error**2, by_station.error**2)
    return CrossedInterval(_normal(by_day.value, math.sqrt(variance)), BOTH)


def _normal(value: float, error: float) -> Interval:
    """Return the interval of a value; `error` is that of a normal distribution with the interval's width."""
    half = error * NormalDist().inv_cdf((1 + LEVEL) / 2)
    p = 2 * NormalDist().cdf(-abs(value) / error) if error > 0 else math.nan
    return Interval(value, value - half, value + half, error, p)


def grouped(terms: Array, index: Numbers) -> Array:
    """Add up the terms (k, p, s) of each group, (k, g, s)."""
    total = np.zeros((int(index.max(initial=-1)) + 1, terms.shape[0], terms.shape[2]))
    np.add.at(total, index, terms.swapaxes(0, 1))
    return total.swapaxes(0, 1)
