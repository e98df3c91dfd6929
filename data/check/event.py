"""Run all checks of one event, and the checks across events."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.check import plausibility
from polarcast.data.check.facts import CLASSES_DBZ, VALUE_EDGES, FrameFacts, Real
from polarcast.data.check.findings import Problem
from polarcast.data.check.observed import Counts
from polarcast.data.check.plausibility import CheckedEvent

KINDS = {
    "ranges": "values within the range of radars",
    "constant": "no constant field, no frozen frame",
    "variables": "variables have the right names",
    "rain units": "the rain grid is in mm/h",
    "orientation": "all fields have the same orientation",
    "order": "frames ordered by time",
}
"""Kinds of checks of a single event, with the message when they pass."""

TOO_LITTLE = "too few echoes or frames"
NO_RAIN = "no rain grid"
ZH_OF_RAIN = "zh was computed from the rain"


@dataclass(frozen=True)
class EventResult:
    """Result of the checks of one event.

    Attributes:
        event: Number and fields of the event.
        frames: Number of readable frames.
        problems: Problems found.
        not_checked: Reason by kind of check that was not made.
        digests: Digest of zh by frame, for frames with echo.
        values, classes, rain_sums: Sums over frames of the attributes of `FrameFacts`.
    """

    event: CheckedEvent
    frames: int
    problems: list[Problem]
    not_checked: dict[str, str]
    digests: dict[int, bytes] = field(repr=False)
    values: Real = field(repr=False)
    classes: Real = field(repr=False)
    rain_sums: Real = field(repr=False)
    observed: Counts | None = None
    """Sums of `observed.count` over frames with masks."""


def check_event(
    event: CheckedEvent, facts: Sequence[FrameFacts], problems: Iterable[Problem] = (), *, zh_is_measured: bool = True
) -> EventResult:
    """Check one event by the summaries of its frames.

    Args:
        event: Number and fields of the event.
        facts: Summaries of its readable frames, ordered by time.
        problems: Problems that were already found.
        zh_is_measured: Whether zh is measured. Computed from rain, it can't be used to check the rain's units.
    """
    number = len(event.variables)
    values = _total((f.values for f in facts), (number, len(VALUE_EDGES) - 1))
    classes = _total((f.classes for f in facts), (number, len(CLASSES_DBZ), 2))
    rain_sums = _total((f.rain_sums for f in facts), (3,))
    no_rain = NO_RAIN if all(f.rain is None for f in facts) else "" if zh_is_measured else ZH_OF_RAIN
    checks: dict[str, Callable[[], list[Problem] | None]] = {
        "ranges": lambda: plausibility.check_ranges(event, facts),
        "constant": lambda: plausibility.check_constants(event, facts),
        "variables": lambda: plausibility.check_names(event, values, classes),
        "rain units": lambda: None if no_rain else plausibility.check_rain_units(event, rain_sums),
        "orientation": lambda: plausibility.check_orientation(event, facts),
        "order": lambda: plausibility.check_order(event, facts),
    }
    found = {kind: check() if facts else None for kind, check in checks.items()}
    return EventResult(
        event=event,
        frames=len(facts),
        problems=[*problems, *(p for kind_problems in found.values() for p in kind_problems or ())],
        not_checked={
            kind: (kind == "rain units" and no_rain) or TOO_LITTLE for kind, of_kind in found.items() if of_kind is None
        },
        digests={f.frame: f.digest for f in facts if f.digest},
        values=values,
        classes=classes,
        rain_sums=rain_sums,
    )


def check_across_events(
    results: Sequence[EventResult], splits: dict[str, tuple[int, ...]] | None = None
) -> list[Problem]:
    """Check for duplicate frames, and check all events together where single events have too little echo.

    Args:
        results: Results of all events.
        splits: Events by split; the same frames in two splits are a leak.
    """
    return [*_duplicates(results, splits or {}), *_pooled(results)]


def passed_checks(results: Sequence[EventResult]) -> dict[str, str]:
    """Return the message by kind of check, for the checks that passed."""
    events, frames = len(results), sum(e.frames for e in results)
    passed = {}
    for kind, message in KINDS.items():
        reasons = Counter(e.not_checked[kind] for e in results if kind in e.not_checked)
        skipped = "; ".join(f"{n} of {events} events not checked: {reason}" for reason, n in reasons.items())
        passed[kind] = skipped if reasons.total() == events else "; ".join(filter(None, (message, skipped)))
    passed["duplicates"] = f"no duplicates among {frames} frames of {events} events"
    return passed


def _duplicates(results: Sequence[EventResult], splits: dict[str, tuple[int, ...]]) -> list[Problem]:
    first: dict[bytes, tuple[CheckedEvent, int]] = {}
    pairs: dict[tuple[int, int], list[int]] = {}
    split_of = {event: name for name, events in splits.items() for event in events}
    for one in results:
        for frame, digest in one.digests.items():
            other, _ = first.setdefault(digest, (one.event, frame))
            if other.number != one.event.number:
                pairs.setdefault((other.number, one.event.number), []).append(frame)
    return [
        Problem("duplicates", f"event {b:03d}", _duplicate_message(frames, a, split_of.get(a, ""), split_of.get(b, "")))
        for (a, b), frames in pairs.items()
    ]


def _duplicate_message(frames: Sequence[int], other: int, split_of_other: str, split: str) -> str:
    subject = f"frame {frames[0]:03d} is" if len(frames) == 1 else f"{len(frames)} frames from {frames[0]:03d} on are"
    leak = f"; a leak between {split_of_other} and {split}" if split != split_of_other else ""
    return f"{subject} also in event {other:03d}, bit for bit{leak}: remove one of the two"


def _pooled(results: Sequence[EventResult]) -> list[Problem]:
    """Check names and units over all events, where every single event has too little echo."""
    if not results:
        return []
    first = results[0].event
    everything = CheckedEvent(first.number, first.variables, first.heights_km)
    values = _total((e.values for e in results), results[0].values.shape)
    classes = _total((e.classes for e in results), results[0].classes.shape)
    rain_sums = _total((e.rain_sums for e in results), (3,))
    found: list[Problem] = []
    if all("variables" in e.not_checked for e in results):
        found += plausibility.check_names(everything, values, classes) or []
    if all(e.not_checked.get("rain units") == TOO_LITTLE for e in results):
        found += plausibility.check_rain_units(everything, rain_sums) or []
    return [Problem(p.kind, "all events", p.found) for p in found]


def _total(arrays: Iterable[npt.NDArray[Any]], shape: tuple[int, ...]) -> Real:
    total = np.zeros(shape)
    for array in arrays:
        total += array
    return total
