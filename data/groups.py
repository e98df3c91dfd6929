"""Groups of events: events that may show the same storm, and are therefore not independent of each other.

Splits assign whole groups, and intervals resample whole groups. The groups are found when an archive is sharded and not
when it is ingested, because a file that is ingested later can connect two events to one storm.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import combinations_with_replacement, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.files import read_limited
from polarcast.data.origins import Area, Origin, archive_origins, are_near, same_place

DEFAULT_RULE, BY_DAY, BY_EVENT = RULES = ("source-day", "day", "event")
"""`by_source_and_day`, `by_day`, or every event its own group."""
LONGEST_HOURS = 48.0
"""Length above which a group by source and day is divided: without a limit, a record without gaps is one group."""
MAX_LENGTH = 200
"""Longest name of a group in characters."""
_TABLE_FIX = "write a CSV table with the columns event,group: one row per event"

Names = dict[int, str]


@dataclass(frozen=True)
class Groups:
    """Group of each event.

    Attributes:
        names: Group by event, of all events.
        origins: Time and place by event, of events that have a clock.
        record: How the groups were made, for the provenance.
    """

    names: Names
    origins: dict[int, Origin] = field(default_factory=dict, repr=False)
    record: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(set(self.names.values()))

    @property
    def are_events(self) -> bool:
        """Whether every event is its own group."""
        return len(self) == len(self.names)

    def stored(self, events: Collection[int]) -> Names:
        """Return the groups of these events for a manifest; empty if every one is its own group."""
        kept = {event: self.names[event] for event in sorted(events)}
        return kept if len(set(kept.values())) < len(kept) else {}


def own_group(event: int) -> str:
    """Return the name of the group of an event that is its own group."""
    return f"{event:03d}"


def problem_of_group(name: object) -> str:
    """Return why a value can't be the name of a group; empty if it can."""
    if not isinstance(name, str):
        return f"must be text, got {type(name).__name__}"
    if not name or name != name.strip() or not name.isprintable():
        return "must be printable text that does not start or end with a space"
    return f"is longer than {MAX_LENGTH} characters" if len(name) > MAX_LENGTH else ""


def groups_of(archive: Archive, spec: str | None = None) -> Groups:
    """Return the groups of an archive's events.

    Args:
        archive: Archive; the notes of its events hold their times and places.
        spec: Name of one of `RULES`, or path of a CSV table with the columns event and group; `DEFAULT_RULE` if None.

    Raises:
        BadInput: Unknown rule, a rule by time for events that have no times, or a table that is unreadable, incomplete,
            or names events that the archive lacks.
    """
    events, origins = sorted(archive.frames), archive_origins(archive.root, archive.frames)
    if spec is not None and spec not in RULES:
        return Groups(read_table(Path(spec), events), origins, {"rule": "table", "table": Path(spec).name})
    rule = spec or DEFAULT_RULE
    if spec in _BY_TIME and not origins:
        raise BadInput(
            f"the events have no times, as {rule} needs", "--groups", f"give a table event,group, or {BY_EVENT}"
        )
    names = {event: own_group(event) for event in events}
    names |= _BY_TIME[rule](origins) if rule in _BY_TIME else {}
    unknown = len(events) - len(origins)
    return Groups(names, origins, {"rule": rule, **({"events_without_times": unknown} if unknown else {})})


def read_table(path: Path, events: Sequence[int]) -> Names:
    """Read the group of each event from a CSV table with the columns event and group.

    Raises:
        BadInput: The table can't be read, lacks a column or an event, or has an event twice or one that is not known.
    """
    if not path.is_file():
        what = f"neither a file nor one of the rules {', '.join(RULES)}"
        raise BadInput(what, f"--groups {path}", _TABLE_FIX)
    try:
        text = StringIO(read_limited(path).decode("utf-8-sig"))
        rows = list(csv.DictReader(text, skipinitialspace=True, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"is not a CSV table ({error})", path, _TABLE_FIX) from None
    names: Names = {}
    for line, row in enumerate(rows, start=2):
        event, group = _parsed(row, f"{path} line {line}")
        if event in names:
            raise BadInput(f"event {event:03d} is listed twice", f"{path} line {line}", "give each event one group")
        names[event] = group
    _check_events(path, names, events)
    return names


def _parsed(row: Mapping[Any, Any], where: str) -> tuple[int, str]:
    event, group = (str(row.get(key) or "").strip() for key in ("event", "group"))
    if not (event.isascii() and event.isdecimal() and len(event) < 10):
        raise BadInput(f"the event is {event[:40]!r}, not a number", where, _TABLE_FIX)
    if problem := problem_of_group(group):
        raise BadInput(f"the group {group[:40]!r} {problem}", where, _TABLE_FIX)
    return int(event), group


def _check_events(path: Path, names: Names, events: Sequence[int]) -> None:
    if missing := sorted(set(events) - set(names)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(f"no group of event {missing[0]:03d}{more}", path, "add a row for every event")
    if unknown := sorted(set(names) - set(events)):
        raise BadInput(f"event {unknown[0]:03d} is not in the archive", path, "remove its row")


def by_source_and_day(origins: Mapping[int, Origin]) -> Names:
    """Return the connected components of events of the same place on the same UTC day, or near each other in time.

    Events are linked if `same_place` holds and they start on the same UTC day or `are_near`. So a storm across midnight
    stays in one group. Components of more than `LONGEST_HOURS` are divided at their longest gaps. A group is named by
    the day and source of its first event.
    """
    events = _in_order(origins, origins)
    at: dict[Area, list[int]] = {}
    for event in events:
        at.setdefault(origins[event].place, []).append(event)
    links = _Components(events)
    for one, other in combinations_with_replacement(at, 2):
        if same_place(one, other):
            _link_in_time(origins, at[one] if one == other else _in_order(origins, at[one] + at[other]), links)
    parts = [part for component in links.components() for part in _divided(origins, component)]
    return _named(origins, parts)


def by_day(origins: Mapping[int, Origin]) -> Names:
    """Return the UTC day of each event's first frame."""
    return {event: origin.day for event, origin in origins.items()}


_BY_TIME: dict[str, Callable[[Mapping[int, Origin]], Names]] = {DEFAULT_RULE: by_source_and_day, BY_DAY: by_day}


class _Components:
    """Connected components of events (union–find); each is represented by its first event in the given order."""

    def __init__(self, events: Sequence[int]) -> None:
        self._rank = {event: rank for rank, event in enumerate(events)}
        self._parent = {event: event for event in events}

    def first(self, event: int) -> int:
        while self._parent[event] != event:
            self._parent[event] = event = self._parent[self._parent[event]]
        return event

    def link(self, a: int, b: int) -> None:
        first, second = sorted((self.first(a), self.first(b)), key=self._rank.__getitem__)
        self._parent[second] = first

    def components(self) -> list[list[int]]:
        """Return the components by their first events, each in the given order."""
        found: dict[int, list[int]] = {}
        for event in self._rank:
            found.setdefault(self.first(event), []).append(event)
        return list(found.values())


def _in_order(origins: Mapping[int, Origin], events: Iterable[int]) -> list[int]:
    return sorted(events, key=lambda event: (origins[event].start, event))


def _link_in_time(origins: Mapping[int, Origin], events: Sequence[int], links: _Components) -> None:
    """Link events of one place, ordered by start, to the one before and to the one that lasted longest so far."""
    last = events[0]
    for before, event in pairwise(events):
        if origins[before].day == origins[event].day:
            links.link(before, event)
        if are_near(origins[last], origins[event]):
            links.link(last, event)
        last = max(last, event, key=lambda e: origins[e].stop)


def _divided(origins: Mapping[int, Origin], events: Sequence[int]) -> list[Sequence[int]]:
    """Divide events, ordered by start, at their longest gaps until no part is longer than `LONGEST_HOURS`.

    Of gaps of equal length, the one nearest to the middle counts. Events that overlap in time are not divided.
    """
    starts = np.array([origins[event].start for event in events])
    stops = np.maximum.accumulate([origins[event].stop for event in events])
    gaps = starts[1:] - stops[:-1]
    parts, left = [], [(0, len(events))]
    while left:
        first, end = left.pop()
        inner = gaps[first : end - 1]
        if stops[end - 1] - starts[first] <= 3600 * LONGEST_HOURS or not (inner > 0).any():
            parts.append(events[first:end])
            continue
        longest = first + 1 + np.flatnonzero(inner == inner.max())
        off_middle = abs(2 * starts[longest] - starts[first] - stops[end - 1])
        cut = int(longest[off_middle.argmin()])
        left += [(first, cut), (cut, end)]
    return parts


def _named(origins: Mapping[int, Origin], parts: Iterable[Sequence[int]]) -> Names:
    """Name each part by its first event; names of two parts differ."""
    names: Names = {}
    taken: set[str] = set()
    for part in sorted(parts, key=lambda part: (origins[part[0]].start, part[0])):
        name = f"{origins[part[0]].day} {origins[part[0]].source}"
        # Parts of one day, or two grids of one variable and spacing at different places, may share a day and source.
        name = f"{name} ({own_group(part[0])})" if name in taken else name
        taken.add(name)
        names |= dict.fromkeys(part, name)
    return names
