"""Find events of two splits that may show the same storm: events of one group, or of one place and time."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import Archive
from polarcast.data.check.findings import WARNING, Finding
from polarcast.data.errors import BadInput
from polarcast.data.groups import Groups, groups_of
from polarcast.data.origins import NEAR_HOURS, Area, Origin, archive_origins, same_place
from polarcast.data.shards.manifest import Manifest
from polarcast.data.splits import SPLITS

_FIX = "shard the archive again with the default --groups"
_NEAR_FIX = "a record of days without a long gap is divided; other groups: --groups with a table event,group"


def check_leaks(manifest: Manifest) -> list[Finding]:
    """Find groups, and events that overlap in time and place, that are in two splits.

    Manifests of earlier versions have no times: they are read from the archive, if it is still where it was.

    Returns:
        A failure for each pair of splits that share a group or have events at one time and place, a warning for each
        pair with events less than `NEAR_HOURS` apart, or one finding that there is no leak.
    """
    origins = manifest.origins or _origins_of_archive(manifest)
    events = [event for members in manifest.splits.values() for event in members]
    known = [event for event in events if event in origins]
    found: list[Finding] = []
    for (one, first), (other, second) in combinations(manifest.splits.items(), 2):
        # Events that are in both are no leak between events; the check of the splits reports them.
        mine, theirs = sorted(set(first) - set(second)), sorted(set(second) - set(first))
        shared = _shared_group(manifest, one, other, mine, theirs)
        overlap = _overlap(origins, one, other, _known(mine, origins), _known(theirs, origins))
        found += filter(None, (shared, overlap))
    without = _without_times(len(events) - len(known), len(events))
    if not found and known:
        shown = f"no two splits have events of one place less than {NEAR_HOURS:g} hours apart"
        return [Finding("leaks", True, "; ".join(filter(None, (shown, without))))]
    return [*found, *([Finding("leaks", True, without)] if without else [])]


def group_finding(archive: Archive) -> Finding:
    """Return how many groups the events of an archive form, which splits do not divide."""
    try:
        groups = groups_of(archive)
    except BadInput as error:
        return Finding("groups", False, str(error))
    without = _without_times(len(groups.names) - len(groups.origins), len(groups.names))
    return Finding("groups", True, "; ".join(filter(None, (_counted(groups), without))))


def _counted(groups: Groups) -> str:
    events = len(groups.names)
    counted = f"{events} event{'s' * (events != 1)} of {len(groups)} group{'s' * (len(groups) != 1)} by source and day"
    few = "" if len(groups) >= len(SPLITS) else f": too few for {', '.join(SPLITS)}"
    return f"{counted}{few}" if groups.origins else ""


def _without_times(unknown: int, events: int) -> str:
    if not unknown:
        return ""
    which = "the events have" if unknown == events else f"{unknown} of {events} events have"
    return f"{which} no times: whether they overlap in time and place is not checked"


def _origins_of_archive(manifest: Manifest) -> dict[int, Origin]:
    root = manifest.provenance.get("root")
    try:
        return archive_origins(Path(root), set(manifest.samples[:, 1].tolist())) if isinstance(root, str) else {}
    except (BadInput, OSError, ValueError):
        return {}


def _shared_group(manifest: Manifest, one: str, other: str, first: list[int], second: list[int]) -> Finding | None:
    shared = {manifest.group_of(e) for e in first} & {manifest.group_of(e) for e in second}
    if not shared:
        return None
    name, more = min(shared), f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    found = f"a leak between {one} and {other}: the group {name}{more} is in both: {_FIX}"
    return Finding("leaks", False, found)


def _known(events: list[int], origins: Mapping[int, Origin]) -> list[int]:
    return [event for event in events if event in origins]


def _overlap(
    origins: Mapping[int, Origin], one: str, other: str, first: list[int], second: list[int]
) -> Finding | None:
    """Return a finding on the events of two splits that are nearest in time; None if all are apart."""
    if not first or not second:
        return None
    gaps = _Gaps(origins, second)
    if overlapping := gaps.nearest(first, 0.0):
        found = f"a leak between {one} and {other}: events of one time and place, "
        return Finding("leaks", False, f"{found}{overlapping.said(origins, one, other)}: {_FIX}")
    if near := gaps.nearest(first, float(np.nextafter(NEAR_HOURS, 0))):
        found = f"a possible leak: events of one place less than {NEAR_HOURS:g} hours apart, "
        return Finding("leaks", True, f"{found}{near.said(origins, one, other)}: {_NEAR_FIX}", WARNING)
    return None


@dataclass(frozen=True)
class _Near:
    """Events of two splits that are near each other: how many of each, and the nearest pair."""

    numbers: tuple[int, int]
    pair: tuple[int, int]

    def said(self, origins: Mapping[int, Origin], one: str, other: str) -> str:
        a, b = self.pair
        counted = f"{self.numbers[0]} of {one} and {self.numbers[1]} of {other}"
        return f"{counted}: event {a:03d} and event {b:03d}, {origins[a].source}, {origins[a].period}"


class _Gaps:
    """Hours between single events and all events of one split, as arrays: archives have thousands of tiles."""

    def __init__(self, origins: Mapping[int, Origin], events: list[int]) -> None:
        self._origins, self._events = origins, events
        self._start = np.array([origins[e].start for e in events])
        self._stop = np.array([origins[e].stop for e in events])
        self._places = list(dict.fromkeys(origins[e].place for e in events))
        number = {place: index for index, place in enumerate(self._places)}
        self._place = np.array([number[origins[e].place] for e in events])
        self._same: dict[Area, npt.NDArray[np.bool_]] = {}

    def nearest(self, others: list[int], most: float) -> _Near | None:
        """Return the events at most so many hours apart (0: overlapping) of one place; None if there are none."""
        involved, count = np.zeros(len(self._events), bool), 0
        nearest, pair = np.inf, (-1, -1)
        for event in others:
            gaps = self._of(event)
            is_near = gaps <= most
            involved |= is_near
            count += bool(is_near.any())
            if (gap := gaps.min()) < nearest:
                nearest, pair = gap, (event, self._events[int(gaps.argmin())])
        return _Near((count, int(involved.sum())), pair) if count else None

    def _of(self, event: int) -> npt.NDArray[np.float64]:
        """Hours between an event and each of the others; infinite at other places."""
        here = self._origins[event]
        if here.place not in self._same:
            self._same[here.place] = np.array([same_place(here.place, place) for place in self._places])
        gaps = (np.maximum(self._start, here.start) - np.minimum(self._stop, here.stop)) / 3600
        return np.where(self._same[here.place][self._place], gaps, np.inf)
