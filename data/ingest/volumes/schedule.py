"""Find the volumes in a list of single sweeps: by the cycle in which the radar repeats them, else by their order.

A radar repeats its sweeps at a fixed period. The list tells it, and at which place of the cycle volumes begin: after
the largest pause, where the elevations begin again, and where the list begins. Lost sweeps then mix no volumes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from polarcast.data.ingest.volumes.alignment import SAME_ANGLE_DEG

SECOND_CUT_S = 60.0
"""A second cut at an elevation, such as the Doppler scan after the surveillance scan, starts within it."""
OTHER_SCAN = 1.2
"""Cuts whose numbers of rays or gates, or their spacing, have a larger ratio are of two scans."""
LONGEST_PAUSE_S = 300.0
LONGEST_VOLUME_S = 960.0
"""Without a cycle, sweeps with a longer pause between them, or farther apart, are of two volumes."""
_OTHER_TASK_S = 300.0
"""Single sweeps of another task, such as one for precipitation near the ground, are between those of a volume."""
_LONGEST_CYCLE_S = 2400.0
_CLEAREST_PAUSE_S = 3600.0
"""After such a pause the radar may follow another schedule."""
_LEAST_REPEATED, _NEARLY = 0.6, 0.85
_JITTER_S, _JITTER = 8.0, 0.03
"""Sweeps repeat within so many seconds, or that share of the period."""
_SURE_SHARE = 0.6
"""Few sweeps tell a cycle of a larger share of the list."""
_MOST_SLOTS = 60
_VOLUME, _REPEAT, _RESCAN, _POOR, _SINGLE, _PART = 1.5, 3.0, 0.1, 2.0, 0.5, 0.4
"""Costs of a volume, a sweep again in it, a rescan of its lowest sweeps, too few fields, one elevation, and an end of
the list within a volume."""
Seconds = npt.NDArray[np.float64]
Columns = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class SingleSweep:
    """A sweep of one radar that rotates in azimuth, with the files of its fields.

    Attributes:
        files: Positions of its files.
        start: Seconds.
        elevation_deg: Its elevation.
        moments: Names of its fields.
        task: Name in the radar's schedule.
        size: Rays, gates, and spacing of the gates.
        pause: Seconds since the radar started the sweep before, of any kind; NaN if there is none.
    """

    files: tuple[int, ...]
    start: float
    elevation_deg: float
    moments: frozenset[str]
    task: str = ""
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pause: float = np.nan

    def is_at(self, other: "SingleSweep") -> bool:
        """Whether the elevations are the same."""
        return abs(self.elevation_deg - other.elevation_deg) < SAME_ANGLE_DEG

    def is_sized_as(self, other: "SingleSweep") -> bool:
        """Whether the rays and gates are about as many, and as far apart."""
        return all(max(pair) <= OTHER_SCAN * min(pair) for pair in zip(self.size, other.size, strict=True))

    def is_second_cut_of(self, other: "SingleSweep", *, is_next: bool) -> bool:
        """Whether it follows an earlier sweep at its elevation at once, or as another scan."""
        is_other = self.task != other.task or not self.is_sized_as(other)
        return self.start - other.start <= SECOND_CUT_S and (is_next or is_other)


@dataclass(frozen=True)
class Volumes:
    """Sweeps by volume.

    Attributes:
        groups: Sweeps of each volume.
        is_complete: Whether the last volume has its last sweeps, as far as the cycle tells.
    """

    groups: list[list[SingleSweep]]
    is_complete: bool = True


def in_volumes(sweeps: Sequence[SingleSweep]) -> Volumes:
    """Return the volumes of the sweeps of a radar, which are in the order of their times."""
    runs: list[list[SingleSweep]] = []
    for sweep in sweeps:
        if not runs or sweep.start - runs[-1][-1].start > _CLEAREST_PAUSE_S:
            runs.append([])
        runs[-1].append(sweep)
    found = [_in_cycles(run) or Volumes(_divided(run)) for run in runs]
    return Volumes([group for one in found for group in one.groups], all(one.is_complete for one in found[-1:]))


def _in_cycles(sweeps: Sequence[SingleSweep]) -> Volumes | None:
    """Return the volumes by the cycle of the schedule; None if the sweeps show none."""
    period = period_of(sweeps)
    if period is None:
        return None
    phases = _phases(sweeps, period)
    places = _places(sweeps, phases, _tolerance(period) / period)
    slots = [_slot([sweeps[i] for i in place], float(phases[place[0]] % 1) * period) for place in places]
    if len(slots) > _MOST_SLOTS:
        return None
    slot_of = {i: n for n, place in enumerate(places) for i in place}
    ends = (slot_of[0], (slot_of[len(sweeps) - 1] + 1) % len(slots))
    first, starts = _best_turn(slots, period, ends)
    groups: dict[tuple[int, int], list[SingleSweep]] = {}
    for i, sweep in enumerate(sweeps):
        slot = slot_of[i]
        cycle = round(float(phases[i]) - slots[slot].start / period) - (slot < first)
        turned = (slot - first) % len(slots)
        part = sum(start <= turned for start in starts)
        groups.setdefault((cycle, part), []).append(sweep)
    ordered = sorted(groups)
    cycles = 1 + ordered[-1][0] - ordered[0][0]
    usual = [len(place) >= _LEAST_REPEATED * min(cycles, _seen(place, phases, cycles)) for place in places]
    last = len(sweeps) - 1
    is_complete = _ends(slot_of[last], first, starts, usual) and sweeps[last].moments >= slots[slot_of[last]].moments
    return Volumes([groups[key] for key in ordered], is_complete)


def _seen(place: Sequence[int], phases: Seconds, cycles: int) -> int:
    """Return in how many cycles of the list a sweep could be."""
    return max(1, min(cycles, int(phases[-1] - phases[place[0]] % 1) + 1))


def _ends(slot: int, first: int, starts: Sequence[int], usual: Sequence[bool]) -> bool:
    """Whether no usual slot of its volume comes after a slot."""
    turned = (slot - first) % len(usual)
    end = next((start for start in starts if start > turned), len(usual))
    return not any(usual[(first + k) % len(usual)] for k in range(turned + 1, end))


def period_of(sweeps: Sequence[SingleSweep]) -> float | None:
    """Return the time in seconds after which most sweeps are repeated; None if there is none.

    A second cut is no repeat: the antenna was at no other elevation, or scanned in another way.
    """
    starts, angles = (np.array(column) for column in zip(*((s.start, s.elevation_deg) for s in sweeps), strict=True))
    pairs = [
        (i, later.start - sweep.start)
        for i, sweep in enumerate(sweeps)
        for k, later in enumerate(sweeps[i + 1 : i + 1 + 4 * _MOST_SLOTS], start=i + 1)
        if later.start - sweep.start <= _LONGEST_CYCLE_S
        and _is_again(sweep, later)
        and any(not one.is_at(sweep) for one in sweeps[i + 1 : k])
    ]
    if not pairs:
        return None
    firsts, apart = (np.array(column) for column in zip(*pairs, strict=True))
    shares = {
        float(time): share
        for time in np.unique(np.round(apart))
        if (share := _repeated(float(time), (starts, angles), firsts, apart))
    }
    within = [share for time, share in shares.items() if time <= _SURE_SHARE * (starts[-1] - starts[0])]
    sure = max(within, default=0.0)
    least = max(_LEAST_REPEATED, _NEARLY * (sure if sure >= _LEAST_REPEATED else max(shares.values(), default=1.0)))
    shortest = min((time for time, share in shares.items() if share >= least), default=None)
    if shortest is None:
        return None
    near = {time: share for time, share in shares.items() if time - shortest <= 2 * _tolerance(shortest)}
    best = max(near, key=lambda time: near[time])
    return float(np.median(apart[np.abs(apart - best) <= _tolerance(best)]))


def _is_again(sweep: SingleSweep, later: SingleSweep) -> bool:
    is_same = sweep.is_at(later) and sweep.is_sized_as(later)
    return is_same and not (later.task != sweep.task and later.is_second_cut_of(sweep, is_next=False))


def _repeated(time: float, sweeps: Columns, firsts: npt.NDArray[np.int64], apart: Seconds) -> float:
    """Return the share of sweeps that are repeated after a time, of those that could be; 0 if of one elevation."""
    starts, angles = sweeps
    tolerance = _tolerance(time)
    could_be = int((starts + time <= starts[-1] + tolerance).sum())
    again = np.unique(firsts[np.abs(apart - time) <= tolerance])
    return min(1.0, len(again) / could_be) if np.ptp(angles[again]) >= SAME_ANGLE_DEG else 0.0


def _tolerance(period: float) -> float:
    return max(_JITTER_S, _JITTER * period)


def _phases(sweeps: Sequence[SingleSweep], period: float) -> Seconds:
    """Return the time of each sweep in periods; sweeps of one place in the cycle have one fraction, also with drift."""
    phases = np.zeros(len(sweeps))
    first = 0
    for i, sweep in enumerate(sweeps):
        while sweep.start - sweeps[first].start > 4.5 * period:
            first += 1
        matches: list[tuple[int, float, int]] = []
        for k in range(first, i):
            cycles = round((sweep.start - sweeps[k].start) / period)
            off = abs(sweep.start - sweeps[k].start - cycles * period)
            if cycles and off <= _tolerance(period) and _is_again(sweeps[k], sweep):
                matches.append((cycles, off, k))
        if matches:
            cycles, _, k = min(matches)
            phases[i] = phases[k] + cycles
        elif i:
            phases[i] = phases[i - 1] + (sweep.start - sweeps[i - 1].start) / period
    return phases


def _places(sweeps: Sequence[SingleSweep], phases: Seconds, tolerance: float) -> list[list[int]]:
    """Return the sweeps of each place in the cycle, in order."""
    places: list[list[int]] = []
    for i in np.argsort(phases % 1, kind="stable").tolist():
        near = [place for place in places if _turn(phases[place[0]], phases[i]) <= tolerance]
        same = [place for place in near if _is_again(sweeps[min(place)], sweeps[i]) or place[0] == i]
        nearest = min(same, key=lambda place: _turn(phases[place[0]], phases[i]), default=None)
        places.append([i]) if nearest is None else nearest.append(i)
    return places


def _turn(first: float, second: float) -> float:
    off = abs(first - second) % 1
    return float(min(off, 1 - off))


def _slot(sweeps: Sequence[SingleSweep], start: float) -> SingleSweep:
    """Return a sweep of the cycle: its fields are those of all, its task is known if all have the same."""
    pauses = [sweep.pause for sweep in sweeps if np.isfinite(sweep.pause)]
    tasks = {sweep.task for sweep in sweeps}
    moments = frozenset().union(*(sweep.moments for sweep in sweeps))
    return replace(
        sweeps[0],
        files=(),
        start=start,
        moments=moments,
        task=tasks.pop() if len(tasks) == 1 else "",
        pause=float(np.median(pauses)) if pauses else np.nan,
    )


def _best_turn(slots: Sequence[SingleSweep], period: float, ends: tuple[int, int]) -> tuple[int, list[int]]:
    """Return the slot with which the cycle begins, and where in it volumes begin, counted from that slot.

    Args:
        slots: Sweeps of a cycle.
        period: In seconds.
        ends: The slot with which the list begins, and the one after that with which it ends.
    """
    number = len(slots)
    turns = [replace(slot, start=slot.start + turn * period) for turn in range(3) for slot in slots]
    gains = _gains(turns)[number : 2 * number]
    costs = _Costs(slots, turns)
    best: tuple[float, int, list[int]] = (np.inf, 0, [0])
    for first in range(number):
        turned = [gains[(first + k) % number] for k in range(number)]
        total, starts = _least(number, partial(costs.of_turned, first), turned)
        begun = {(first + start) % number for start in starts}
        total += _PART * sum(end not in begun for end in ends)
        if total < best[0] - 1e-9:
            best = (total, first, starts)
    return best[1], best[2]


def _divided(sweeps: Sequence[SingleSweep]) -> list[list[SingleSweep]]:
    """Return the volumes of sweeps that show no cycle: one, or few that are not whole."""
    costs = _Costs(sweeps, sweeps)
    _, starts = _least(len(sweeps), costs.of_bounded, _gains(sweeps))
    return [list(sweeps[a:b]) for a, b in pairwise([*starts, len(sweeps)])]


def _least(number: int, cost: Callable[[int, int], float], gains: Sequence[float]) -> tuple[float, list[int]]:
    """Return the least cost of dividing sweeps 0 to `number`, and where the parts start."""
    totals, before = [0.0] + [np.inf] * number, [0] * (number + 1)
    for a in range(number):
        for b in range(a + 1, number + 1):
            added = cost(a, b)
            if added == np.inf:
                break
            total = totals[a] + added - gains[a]
            if total < totals[b] - 1e-9:
                totals[b], before[b] = total, a
    starts, end = [], number
    while end:
        end = before[end]
        starts.append(end)
    return totals[number], starts[::-1]


def _gains(sweeps: Sequence[SingleSweep]) -> list[float]:
    """Return how much speaks for the begin of a volume at each sweep: a pause, and elevations that begin again."""
    between = np.diff([sweep.start for sweep in sweeps])
    pauses = [b if np.isnan(s.pause) else s.pause for b, s in zip(between, sweeps[1:], strict=True)]
    usual = max(1.0, float(np.median(pauses))) if pauses else 1.0
    angles = np.array([sweep.elevation_deg for sweep in sweeps])
    steps, span = np.diff(angles), float(np.ptp(angles))
    gains = [0.0]
    for k in range(1, len(sweeps)):
        step = float(steps[k - 1])
        moved = steps[: k - 1][steps[: k - 1] != 0][-1:], steps[k:][steps[k:] != 0][:1]
        around = [float(one[0]) for one in moved if len(one)]
        begins_again = bool(around) and all(step * other < 0 for other in around)
        turns_back = step == 0 and len(around) == 2 and around[0] * around[1] < 0
        longer = max(0.0, pauses[k - 1] / usual - 1) / 2
        back = abs(step) / span if begins_again else 0.0
        gain = min(longer, 0.9 + 0.8 * back) + 0.6 * back**2 + 0.3 * turns_back
        gains.append(gain + (0.15 if angles[k] < angles.min() + SAME_ANGLE_DEG else 0.0))
    return gains


class _Costs:
    """Costs of consecutive sweeps as one volume."""

    def __init__(self, known: Sequence[SingleSweep], sweeps: Sequence[SingleSweep]) -> None:
        self._sweeps, self._turn = sweeps, len(known)
        self._moments = frozenset[str]().union(*(sweep.moments for sweep in known))
        angles = {(sweep.task, round(sweep.elevation_deg, 1)) for sweep in known}
        self._single_tasks = {task for task, count in Counter(task for task, _ in angles).items() if count == 1}
        self._found: dict[tuple[int, int], float] = {}

    def of_turned(self, first: int, a: int, b: int) -> float:
        """Return the cost of sweeps `a` to `b` of a cycle, counted from the first one."""
        a, b = first + a, first + b
        key = (a % self._turn, b - a)
        if key not in self._found:
            self._found[key] = self._cost(self._sweeps[a:b])
        return self._found[key]

    def of_bounded(self, a: int, b: int) -> float:
        """Return the cost of sweeps `a` to `b`; infinite if no volume has them, nor them and more."""
        part = self._sweeps[a:b]
        pause = part[-1].start - part[max(0, len(part) - 2)].start
        if pause > LONGEST_PAUSE_S or part[-1].start - part[0].start > LONGEST_VOLUME_S:
            return np.inf
        return self._cost(part) if len(part) <= _MOST_SLOTS else np.inf

    def _cost(self, part: Sequence[SingleSweep]) -> float:
        repeats = [k for k in range(1, len(part)) if any(self._repeats(part, i, k) for i in range(k))]
        rescans = _rescans(part, repeats)
        cost = _VOLUME + _REPEAT * (len(repeats) - len(rescans)) + _RESCAN * bool(rescans)
        if frozenset[str]().union(*(sweep.moments for sweep in part)) < self._moments:
            cost += _POOR
        return cost + _SINGLE * all(sweep.is_at(part[0]) for sweep in part)

    def _repeats(self, part: Sequence[SingleSweep], i: int, k: int) -> bool:
        """Whether a sweep has a field of an earlier one again, as the next volume has."""
        first, second = part[i], part[k]
        if not first.is_at(second) or not first.moments & second.moments:
            return False
        if first.task and second.task and first.task != second.task:
            is_single = bool(self._single_tasks & {first.task, second.task})
            is_partial = first.moments < second.moments or second.moments < first.moments
            if (is_single or is_partial) and second.start - first.start < _OTHER_TASK_S:
                return False
        is_next = all(one.is_at(first) and one.is_sized_as(first) and one.task == first.task for one in part[i:k])
        return not second.is_second_cut_of(first, is_next=is_next)


def _rescans(part: Sequence[SingleSweep], repeats: Sequence[int]) -> list[int]:
    """Return the repeats that are rescans of the lowest sweeps within an ascending volume (SAILS, MRLE).

    The antenna continues above all sweeps before them, and they are half of these at most.
    """
    found: list[int] = []
    again = set(repeats)
    low = min(sweep.elevation_deg for sweep in part)
    k = 0
    while k < len(part):
        end = k
        while end < len(part) and end in again:
            end += 1
        if end > k and end < len(part) and part[k].elevation_deg < low + SAME_ANGLE_DEG:
            before = {round(sweep.elevation_deg, 1) for sweep in part[:k]}
            block = {round(sweep.elevation_deg, 1) for sweep in part[k:end]}
            is_ascending = part[end].elevation_deg > max(before)
            found += range(k, end) if is_ascending and 2 * len(block) <= len(before) else ()
        k = max(end, k + 1)
    return found
