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
from polarcast.data.check.order import examine_order
from polarcast.data.check.plausibility import TOO_LITTLE, CheckedEvent, Outcome

KINDS = {
    "ranges": "values within the range of radars",
    "constant": "no constant field, no frozen frame",
    "variables": "variables have the right names",
    "rain units": "the rain grid is in mm/h",
    "orientation": "all fields have the same orientation",
    "order": "frames ordered by time",
}
"""Kinds of checks of a single event, with the message when they pass."""

NO_FRAMES = "no frame could be read"
NO_RAIN = "no rain grid"
ZH_OF_RAIN = "zh was computed from the rain"


@dataclass(frozen=True)
class EventResult:
    """Result of the checks of one event.

    Attributes:
        event: Number and fields of the event.
        frames: Number of readable frames.
        problems: Problems found.
        frames_in_order: Number of frames with enough echo to judge their order.
        not_judged: Reason by kind of check that was not made.
        digests: Digest of zh by frame, for frames with echo.
        values, classes, rain_sums: Sums over frames of the attributes of `FrameFacts`.
    """

    event: CheckedEvent
    frames: int
    problems: list[Problem]
    frames_in_order: int
    not_judged: dict[str, str]
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
    classes = np.array([f.classes for f in facts]).reshape(len(facts), number, len(CLASSES_DBZ), 2)
    rain_sums = _total((f.rain_sums for f in facts), (3,))
    order = examine_order(facts)
    no_rain = NO_RAIN if all(f.rain is None for f in facts) else "" if zh_is_measured else ZH_OF_RAIN
    checks: dict[str, Callable[[], Outcome]] = {
        "ranges": lambda: plausibility.check_ranges(event, facts),
        "constant": lambda: plausibility.check_constants(event, facts),
        "variables": lambda: plausibility.check_names(event, values, classes),
        "rain units": lambda: no_rain or plausibility.check_rain_units(event, rain_sums),
        "orientation": lambda: plausibility.check_orientation(event, facts),
        "order": lambda: plausibility.check_order(event, facts, order),
    }
    found = {kind: check() if facts else NO_FRAMES for kind, check in checks.items()}
    return EventResult(
        event=event,
        frames=len(facts),
        problems=[*problems, *(p for outcome in found.values() if not isinstance(outcome, str) for p in outcome)],
        frames_in_order=order.judged,
        not_judged={kind: outcome for kind, outcome in found.items() if isinstance(outcome, str)},
        digests={f.frame: f.digest for f in facts if f.digest},
        values=values,
        classes=classes.sum(0),
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
    """Return the message by kind of check, for the checks that were made of at least one event, if it passed."""
    events, frames = len(results), sum(e.frames for e in results)
    passed = {kind: message for kind, message in KINDS.items() if any(kind not in e.not_judged for e in results)}
    return {**passed, "duplicates": f"no duplicates among {frames} frames of {events} events"}


def unjudged_checks(results: Sequence[EventResult]) -> dict[str, str]:
    """Return the reasons by kind of check, and for how many events or frames, for what could not be judged."""
    unjudged = {}
    for kind in KINDS:
        reasons = Counter(e.not_judged[kind] for e in results if kind in e.not_judged)
        if reasons:
            counted = (f"{n} of {len(results)} events: {reason}" for reason, n in reasons.items())
            unjudged[kind] = f"not judged in {'; '.join(counted)}"
    frames, judged = sum(e.frames for e in results), sum(e.frames_in_order for e in results)
    if judged < frames:
        unjudged["order"] = f"not judged in {frames - judged} of {frames} frames: too little echo in or beside them"
    return unjudged


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
    """Check names and units over all events, where no single event could be judged."""
    if not results:
        return []
    first = results[0].event
    everything = CheckedEvent(first.number, first.variables, first.heights_km)
    values = _total((e.values for e in results), results[0].values.shape)
    classes = np.stack([e.classes for e in results])
    rain_sums = _total((e.rain_sums for e in results), (3,))
    outcomes: list[Outcome] = []
    if all("variables" in e.not_judged for e in results):
        outcomes.append(plausibility.check_names(everything, values, classes))
    if all(e.not_judged.get("rain units") == TOO_LITTLE for e in results):
        outcomes.append(plausibility.check_rain_units(everything, rain_sums))
    found = [problem for outcome in outcomes if not isinstance(outcome, str) for problem in outcome]
    return [Problem(p.kind, "all events", p.found) for p in found]


def _total(arrays: Iterable[npt.NDArray[Any]], shape: tuple[int, ...]) -> Real:
    total = np.zeros(shape)
    for array in arrays:
        total += array
    return total
