"""All checks of one event, and of what its events have in common."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.check import judge
from polarcast.data.check.facts import CLASSES_DBZ, VALUE_EDGES, FrameFacts, Real
from polarcast.data.check.findings import Problem
from polarcast.data.check.judge import CheckedEvent

KINDS = {
    "ranges": "values a radar can give",
    "constant": "no constant field, no frozen frame",
    "variables": "the variables bear their own names",
    "rain units": "the rain grid is in mm/h",
    "orientation": "all fields the same way up",
    "order": "frames in order of time",
}
"""Kinds of checks of a single event, with what holds when nothing is found."""

TOO_LITTLE = "too few echoes or frames"
NO_RAIN = "there is no rain grid"
ZH_OF_RAIN = "zh was computed from the rain"


@dataclass(frozen=True)
class Examined:
    """What came of one event.

    Attributes:
        event: Its number and fields.
        frames: How many could be read.
        problems: What was found.
        unjudged: Kinds of checks that were not made, with the reason.
        digests: Frame → digest of zh, of the frames with echo.
        values, classes, rain_sums: Sums of those of `FrameFacts`.
    """

    event: CheckedEvent
    frames: int
    problems: list[Problem]
    unjudged: dict[str, str]
    digests: dict[int, bytes] = field(repr=False)
    values: Real = field(repr=False)
    classes: Real = field(repr=False)
    rain_sums: Real = field(repr=False)


def examine(
    event: CheckedEvent, facts: Sequence[FrameFacts], problems: Iterable[Problem] = (), *, zh_is_measured: bool = True
) -> Examined:
    """Judge one event by its boiled-down frames.

    Args:
        event: Its number and fields.
        facts: Of its readable frames, in order.
        problems: What is known to be wrong already.
        zh_is_measured: False where it was computed from the rain, and can't tell of the rain's units.
    """
    number = len(event.variables)
    values = _total((f.values for f in facts), (number, len(VALUE_EDGES) - 1))
    classes = _total((f.classes for f in facts), (number, len(CLASSES_DBZ), 2))
    rain_sums = _total((f.rain_sums for f in facts), (3,))
    no_rain = NO_RAIN if all(f.rain is None for f in facts) else "" if zh_is_measured else ZH_OF_RAIN
    checks: dict[str, Callable[[], list[Problem] | None]] = {
        "ranges": lambda: judge.check_ranges(event, facts),
        "constant": lambda: judge.check_constants(event, facts),
        "variables": lambda: judge.check_names(event, values, classes),
        "rain units": lambda: None if no_rain else judge.check_rain_units(event, rain_sums),
        "orientation": lambda: judge.check_orientation(event, facts),
        "order": lambda: judge.check_order(event, facts),
    }
    found = {kind: check() if facts else None for kind, check in checks.items()}
    return Examined(
        event=event,
        frames=len(facts),
        problems=[*problems, *(p for of_kind in found.values() for p in of_kind or ())],
        unjudged={
            kind: (kind == "rain units" and no_rain) or TOO_LITTLE for kind, of_kind in found.items() if of_kind is None
        },
        digests={f.frame: f.digest for f in facts if f.digest},
        values=values,
        classes=classes,
        rain_sums=rain_sums,
    )


def across(examined: Sequence[Examined], splits: dict[str, tuple[int, ...]] | None = None) -> list[Problem]:
    """What only shows between events: the same frames in two of them, and what single events have too little echo for.

    Args:
        examined: All events.
        splits: Which event is in which split; the same frames in two splits are a leak.
    """
    return [*_duplicates(examined, splits or {}), *_pooled(examined)]


def sound(examined: Sequence[Examined]) -> dict[str, str]:
    """Kind → what was measured, for the kinds that found nothing."""
    events, frames = len(examined), sum(e.frames for e in examined)
    told = {}
    for kind, holds in KINDS.items():
        reasons = Counter(e.unjudged[kind] for e in examined if kind in e.unjudged)
        silent = "; ".join(f"{n} of {events} events not judged: {reason}" for reason, n in reasons.items())
        told[kind] = silent if reasons.total() == events else "; ".join(filter(None, (holds, silent)))
    told["duplicates"] = f"no frame twice among {frames} frames of {events} events"
    return told


def _duplicates(examined: Sequence[Examined], splits: dict[str, tuple[int, ...]]) -> list[Problem]:
    first: dict[bytes, tuple[CheckedEvent, int]] = {}
    pairs: dict[tuple[int, int], list[int]] = {}
    split_of = {event: name for name, events in splits.items() for event in events}
    for one in examined:
        for frame, digest in one.digests.items():
            other, _ = first.setdefault(digest, (one.event, frame))
            if other.number != one.event.number:
                pairs.setdefault((other.number, one.event.number), []).append(frame)
    return [
        Problem("duplicates", f"event {b:03d}", _told(frames, a, split_of.get(a, ""), split_of.get(b, "")))
        for (a, b), frames in pairs.items()
    ]


def _told(frames: Sequence[int], other: int, split_of_other: str, split: str) -> str:
    which = f"frame {frames[0]:03d} is" if len(frames) == 1 else f"{len(frames)} frames from {frames[0]:03d} on are"
    leak = f"; a leak between {split_of_other} and {split}" if split != split_of_other else ""
    return f"{which} in event {other:03d} too, bit for bit{leak}: remove one of the two"


def _pooled(examined: Sequence[Examined]) -> list[Problem]:
    """Names and units over all events, where every single one had too little echo."""
    if not examined:
        return []
    first = examined[0].event
    everything = CheckedEvent(first.number, first.variables, first.heights_km)
    values = _total((e.values for e in examined), examined[0].values.shape)
    classes = _total((e.classes for e in examined), examined[0].classes.shape)
    rain_sums = _total((e.rain_sums for e in examined), (3,))
    found: list[Problem] = []
    if all("variables" in e.unjudged for e in examined):
        found += judge.check_names(everything, values, classes) or []
    if all(e.unjudged.get("rain units") == TOO_LITTLE for e in examined):
        found += judge.check_rain_units(everything, rain_sums) or []
    return [Problem(p.kind, "all events", p.found) for p in found]


def _total(arrays: Iterable[npt.NDArray[Any]], shape: tuple[int, ...]) -> Real:
    total = np.zeros(shape)
    for array in arrays:
        total += array
    return total
