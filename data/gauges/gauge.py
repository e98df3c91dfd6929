"""Amounts of rain that a gauge measured in intervals of time, and ways to change the intervals."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown

Real = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
Words = npt.NDArray[np.str_]

MISSING, RANGE, STUCK, ZERO, SPIKE = "missing", "range", "stuck", "isolated zero", "spike"
FLAGS = (MISSING, RANGE, STUCK, ZERO, SPIKE)
"""Reasons for which an interval does not count."""
REFUSE, THIN = "refuse", "thin"
SAME_PLACE_DEGREES = 1e-3
"""Difference of coordinates up to which two records of a station are of one place, about 100 m."""
_WORD = "<U16"
_FEWEST_BLOCKS = 4


@dataclass(frozen=True)
class Gauge:
    """Rain gauge.

    Attributes:
        station: Name.
        latitude, longitude: Place in degrees.
        ends: Ends of the intervals in UTC, datetime64[s], ascending, (n,).
        minutes: Lengths of the intervals, (n,).
        mm: Amounts, (n,); NaN where missing.
        flags: Reason for which an interval does not count, one of `FLAGS`, (n,); empty where it counts.
    """

    station: str
    latitude: float
    longitude: float
    ends: Times = field(repr=False)
    minutes: Real = field(repr=False)
    mm: Real = field(repr=False)
    flags: Words = field(repr=False)

    @classmethod
    def of(cls, station: str, latitude: float, longitude: float, ends: Times, minutes: Real, mm: Real) -> "Gauge":
        """Return a gauge whose intervals are in order of time; missing amounts are flagged."""
        order = np.argsort(ends, kind="stable")
        amounts = np.asarray(mm, np.float64)[order]
        lengths = np.broadcast_to(np.asarray(minutes, np.float64), amounts.shape)[order]
        flags = np.where(np.isnan(amounts), MISSING, "").astype(_WORD)
        return cls(station, latitude, longitude, ends.astype("datetime64[s]")[order], lengths, amounts, flags)

    def __len__(self) -> int:
        return len(self.mm)

    @property
    def starts(self) -> Times:
        """Starts of the intervals, (n,)."""
        out: Times = self.ends - _seconds(self.minutes)
        return out

    @property
    def counts(self) -> npt.NDArray[np.bool_]:
        """Whether each interval counts, (n,)."""
        return (self.flags == "") & np.isfinite(self.mm)

    def chosen(self, which: npt.NDArray[np.bool_]) -> "Gauge":
        """Return the gauge with some of its intervals."""
        return replace(
            self, ends=self.ends[which], minutes=self.minutes[which], mm=self.mm[which], flags=self.flags[which]
        )

    def flagged(self, which: npt.NDArray[np.bool_], reason: str) -> "Gauge":
        """Return the gauge with a reason at intervals that had none."""
        return replace(self, flags=np.where((self.flags == "") & which, reason, self.flags).astype(_WORD))


def _seconds(minutes: Real) -> npt.NDArray[np.timedelta64]:
    return np.rint(60 * minutes).astype(np.int64).astype("timedelta64[s]")


def differenced(gauge: Gauge) -> tuple[Gauge, int]:
    """Turn readings of a counter into the amounts between them.

    Where the counter falls, it was reset: the amount is missing, because the water before the reset is not known. It is
    also missing after a gap, which is a step longer than the usual one.

    Returns:
        The gauge, without its first reading, and the number of resets.
    """
    mm, steps = np.diff(gauge.mm), np.diff(gauge.ends) / np.timedelta64(60, "s")
    usual = float(np.median(steps)) if len(steps) else 0.0
    is_reset, is_gap = mm < 0, steps > 1.5 * usual
    amounts = np.where(is_reset | is_gap, np.nan, mm)
    out = Gauge.of(gauge.station, gauge.latitude, gauge.longitude, gauge.ends[1:], steps, amounts)
    return out, int(is_reset.sum())


def without_overlaps(gauge: Gauge, rule: str, where: object, asked: str) -> tuple[Gauge, int]:
    """Return a gauge whose intervals do not overlap, and the number that were left out.

    Args:
        gauge: Gauge with intervals in order of their ends.
        rule: `REFUSE`, or `THIN`: keep the first interval, then the next one that starts at or after its end.
        where: Place for the error message.
        asked: Option that thins them.

    Raises:
        BadInput: Intervals overlap, and the rule is to refuse them.
    """
    starts, ends = gauge.starts, gauge.ends
    over = np.flatnonzero(starts[1:] < np.maximum.accumulate(ends)[:-1])
    if not len(over):
        return gauge, 0
    if rule == REFUSE:
        first = int(over[0]) + 1
        what = (
            f"{len(over)} intervals of station {shown(gauge.station)} overlap, the first {starts[first]} to "
            f"{ends[first]}"
        )
        fix = f"give {asked} to keep those that do not overlap, or say that the amounts are those of a counter"
        raise BadInput(what, where, fix)
    keep, last = np.zeros(len(gauge), np.bool_), np.datetime64("1000-01-01", "s")
    for i in range(len(gauge)):
        if starts[i] >= last:
            keep[i], last = True, ends[i]
    return gauge.chosen(keep), int((~keep).sum())


def rebuilt_blocks(gauge: Gauge) -> tuple[Gauge, int]:
    """Undo the spreading of long amounts over short intervals, such as 15 minutes over three of five.

    Amounts that come in equal runs of k throughout, always beginning at the same place, were measured every k
    intervals. As short intervals they would pass for a time resolution that the gauge does not have.

    Returns:
        The gauge with the long intervals, and k; 1 if nothing was changed. Incomplete runs at both ends are dropped.
    """
    if not _may_be_spread(gauge):
        return gauge, 1
    for k in range(12, 1, -1):
        for first in range(k):
            stop = first + (len(gauge) - first) // k * k
            blocks = gauge.mm[first:stop].reshape(-1, k)
            if not _is_spread(blocks):
                continue
            last = np.arange(first + k - 1, stop, k)
            minutes = gauge.minutes[first:stop].reshape(-1, k).sum(1)
            out = Gauge.of(
                gauge.station, gauge.latitude, gauge.longitude, gauge.ends[last], minutes, k * blocks.mean(1)
            )
            return out, k
    return gauge, 1


def _may_be_spread(gauge: Gauge) -> bool:
    """Return whether intervals are regular, and at least two fifths of the wet ones are equal to the next."""
    if len(gauge) < 2 * _FEWEST_BLOCKS or len(np.unique(gauge.minutes)) > 1 or len(np.unique(np.diff(gauge.ends))) > 1:
        return False
    before, after = gauge.mm[:-1], gauge.mm[1:]
    wet = (before > 0) | (after > 0)
    return bool(wet.any()) and float((np.abs(after - before)[wet] <= 1e-6).mean()) >= 0.4


def _is_spread(blocks: Real) -> bool:
    """Return whether all blocks are constant, enough of them are wet, and neighbors differ often enough."""
    wet = blocks[(blocks > 0).any(1)]
    if len(wet) < _FEWEST_BLOCKS or not np.allclose(blocks, blocks[:, :1], rtol=1e-6, atol=1e-9, equal_nan=True):
        return False
    return int((np.abs(np.diff(blocks[:, 0])) > 1e-9).sum()) >= _FEWEST_BLOCKS


def accumulated(gauge: Gauge, minutes: float) -> Gauge:
    """Sum intervals that count to longer ones, which begin at multiples of their length after midnight UTC.

    A longer interval has an amount only if intervals that count fill it entirely. Intervals across its ends do not
    count, so that nothing is divided.
    """
    length = round(60 * minutes)
    used = gauge.chosen(gauge.counts)
    ends = used.ends.astype(np.int64)
    block = -(-ends // length)
    lengths = np.rint(60 * used.minutes)
    within = (ends - lengths) >= (block - 1) * length
    names, index = np.unique(block[within], return_inverse=True)
    filled, mm = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(filled, index, lengths[within])
    np.add.at(mm, index, used.mm[within])
    whole = np.isclose(filled, length)
    stops = (names[whole] * length).astype("datetime64[s]")
    return Gauge.of(gauge.station, gauge.latitude, gauge.longitude, stops, np.full(len(stops), minutes), mm[whole])


def joined(gauges: Iterable[Gauge]) -> list[Gauge]:
    """Join the records of each station, such as those of several files, in order of station.

    An interval that is recorded twice with one amount counts once.

    Raises:
        BadInput: A station has two places, or two amounts for one interval.
    """
    records: dict[str, list[Gauge]] = {}
    for gauge in gauges:
        records.setdefault(gauge.station, []).append(gauge)
    return [_one(parts) for _, parts in sorted(records.items())]


def _one(parts: list[Gauge]) -> Gauge:
    first = parts[0]
    for part in parts[1:]:
        apart = max(abs(part.latitude - first.latitude), abs(part.longitude - first.longitude))
        if apart > SAME_PLACE_DEGREES:
            what = f"has two places: {first.latitude:g}, {first.longitude:g} and {part.latitude:g}, {part.longitude:g}"
            raise BadInput(what, f"station {shown(first.station)}", "give the two stations two names")
    ends, minutes, mm = (np.concatenate([getattr(p, name) for p in parts]) for name in ("ends", "minutes", "mm"))
    order = np.lexsort((np.isnan(mm), minutes, ends))
    ends, minutes, mm = ends[order], minutes[order], mm[order]
    is_again = np.concatenate([[False], (ends[1:] == ends[:-1]) & (minutes[1:] == minutes[:-1])])
    clash = is_again[1:] & (np.abs(np.diff(mm)) > 1e-6)
    if clash.any():
        at = int(np.flatnonzero(clash)[0])
        what = f"two amounts for the interval that ends {ends[at]}: {mm[at]:g} and {mm[at + 1]:g} mm"
        raise BadInput(what, f"station {shown(first.station)}", "remove one of the records")
    keep = ~is_again
    return Gauge.of(first.station, first.latitude, first.longitude, ends[keep], minutes[keep], mm[keep])
