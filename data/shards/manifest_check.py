"""Checks of a manifest's content, which may come from a stranger: types, ranges and sizes, before it is used.

Each function raises ValueError with the reason. What a manifest claims about its shards' content is bounded by the
sizes of the shards, so that a small manifest can't make a reader allocate much memory.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from polarcast.data.archive import VARIABLES
from polarcast.data.groups import problem_of_group
from polarcast.data.names import problem_of_name
from polarcast.data.observed import level_bytes
from polarcast.data.origins import is_extent
from polarcast.data.shards.samples import EVENT, FRAME, INTENSITY, LISTED, OBSERVED, RADAR, RAIN, STRONG, Table
from polarcast.data.splits import SPLITS

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_FRAME_BYTES, _MAX_SHARD_BYTES, _MAX_NUMBER = 2**32, 2**50, 2**31
_MAX_SECONDS = 6 * 10**10  # years 68 to 3871
_MAX_HALF, _MAX_DEPTH = 65504, 40


def check_header(content: dict[str, Any]) -> None:
    """Check everything but the shards: the grid, units, splits, statistics, selection and provenance."""
    for key, (kind, good) in (_FIELDS | {key: of for key, of in _OPTIONAL.items() if key in content}).items():
        if key not in content or not isinstance(content[key], kind) or not good(content[key]):
            raise ValueError(f"{key} is missing" if key not in content else f"{key}: {_short(content[key])}")
    if unknown := sorted(set(content) - set(_FIELDS) - set(_OPTIONAL)):
        raise ValueError(f"unknown field {_short(unknown[0])}")
    if missing := set(content["variables"]) - set(content["units"]):
        raise ValueError(f"no unit of {_short(min(missing))}")
    if (size := frame_bytes(content)) > _MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {size} bytes")


def frame_bytes(content: dict[str, Any]) -> int:
    """Return the size of one frame's radar fields in bytes."""
    return 2 * len(content["variables"]) * len(content["heights_km"]) * math.prod(content["shape"])


def check_entry(entry: Any, manifest_name: str) -> None:
    """Check the name, size, checksum and lists of one shard."""
    if not isinstance(entry, dict):
        raise ValueError(f"shard {_short(entry)}")
    if problem := problem_of_name(entry["name"]):
        raise ValueError(f"shard name {_short(entry['name'])}: a name {problem}")
    name = _short(entry["name"])
    if entry["name"] == manifest_name:
        raise ValueError(f"a shard is called {name}")
    if not _is_whole(entry["bytes"]) or entry["bytes"] > _MAX_SHARD_BYTES:
        raise ValueError(f"{name} has {_short(entry['bytes'])} bytes")
    if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
        raise ValueError(f"{name} has the SHA-256 {_short(entry['sha256'])}")
    if not all(isinstance(entry[key], list) for key in ("runs", *LISTED)):
        raise ValueError(f"the frames of {name} are not lists")


def mask_bytes(content: dict[str, Any]) -> int:
    """Return the size of one frame's masks of observed pixels in bytes: the heights and, with rain, the ground."""
    levels = len(content["heights_km"]) + ("rain_rate" in content["units"])
    return levels * level_bytes(math.prod(content["shape"]))


def check_entries(entries: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Check that shards have different names, that runs have the columns, and that all their numbers are integers."""
    names = [entry["name"] for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("two shards have the same name")
    runs = [run for entry in entries for run in entry["runs"]]
    if not all(isinstance(run, list) and len(run) == len(columns) for run in runs):
        raise ValueError(f"a run does not have the columns {', '.join(columns)}")
    if not set(map(type, chain.from_iterable(runs))) <= {int}:
        raise ValueError("a run holds other values than integers")
    for key in LISTED:
        if not set(map(type, chain.from_iterable(entry[key] for entry in entries))) <= {int}:
            raise ValueError(f"{key} holds other values than integers")


def check_runs(entries: Sequence[dict[str, Any]], shard_of_run: Table, runs: Table) -> None:
    """Check that the runs (k, 7) cover as many frames as each shard lists, without an overflow in their expansion."""
    event, frame, frames, radar, rain, stride, observed = runs.T
    size = np.array([entry["bytes"] for entry in entries], np.int64)[shard_of_run]
    number = (event >= 0) & (event < _MAX_NUMBER) & (frame >= 0) & (frame < _MAX_NUMBER)
    place = (radar >= 0) & (radar <= size) & (rain >= -1) & (rain <= size) & (stride >= -size) & (stride <= size)
    length = (frames >= 1) & (frames < _MAX_NUMBER) & ((frames - 1.0) * np.abs(stride) <= size)
    place &= (observed >= -1) & (observed <= size)
    if not (number & place & length).all():
        raise ValueError(f"the run {runs[np.argmin(number & place & length)].tolist()} is outside of its shard")
    # Counts are Python integers: sums of hostile ones could overflow.
    expected = [0] * len(entries)
    for shard, count in zip(shard_of_run.tolist(), frames.tolist(), strict=True):
        expected[shard] += count
    for entry, count in zip(entries, expected, strict=True):
        if any(len(entry[key]) != count for key in LISTED):
            raise ValueError(f"{entry['name']} lists other numbers of frames than its runs")


def check_rows(content: dict[str, Any], sizes: Sequence[int], rows: Table) -> None:
    """Check the rows (n, 1 + COLUMNS): arrays within their shards that do not overlap, and each frame only once."""
    if not len(rows):
        raise ValueError("no frames")
    size, pixels = np.array(sizes, np.int64)[rows[:, 0]], math.prod(content["shape"])
    _check_places(rows[:, 0], rows[:, 1 + RADAR], frame_bytes(content), size, "radar")
    has_rain = rows[:, 1 + RAIN] >= 0
    if "rain_rate" in content["units"] and not has_rain.all():
        raise ValueError("a frame has no rain rate")
    _check_places(rows[has_rain, 0], rows[has_rain, 1 + RAIN], 2 * pixels, size[has_rain], "rain")
    masked = rows[:, 1 + OBSERVED] >= 0
    _check_places(rows[masked, 0], rows[masked, 1 + OBSERVED], mask_bytes(content), size[masked], "mask")
    strong, intensity = rows[:, 1 + STRONG], rows[:, 1 + INTENSITY]
    if strong.min() < -1 or intensity.min() < 0 or intensity.max() > 10**6:
        raise ValueError("strong_pixels or intensity_ppm out of range")
    key = rows[:, 1 + EVENT] * _MAX_NUMBER + rows[:, 1 + FRAME]
    if not (np.diff(key) > 0).all() and len(np.unique(key)) < len(key):
        raise ValueError("a frame is listed twice")


def _check_places(shard: Table, offset: Table, length: int, size: Table, what: str) -> None:
    """Check that arrays of `length` bytes at offsets within their shards are aligned and do not overlap."""
    if (offset % 2).any() or (offset < 0).any() or (offset + length > size).any():
        raise ValueError(f"a {what} array is outside of its shard")
    if not _are_apart(shard, offset, length):
        order = np.lexsort((offset, shard))
        if not _are_apart(shard[order], offset[order], length):
            raise ValueError(f"{what} arrays overlap")


def _are_apart(shard: Table, offset: Table, length: int) -> bool:
    return bool(((np.diff(shard) != 0) | (np.diff(offset) >= length)).all())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_name(value: Any) -> bool:
    return not problem_of_name(value)


def _is_statistic(value: Any) -> bool:
    """Whether a value is a count, or has a count and moments of half-precision values, which are bounded."""
    if not isinstance(value, dict):
        return _is_whole(value)
    moments = [number for key, number in value.items() if key != "count" and number is not None]
    is_bounded = all(_is_number(number) and abs(number) <= _MAX_HALF for number in moments)
    return bool(value) and _is_whole(value.get("count", 0)) and is_bounded and (value.get("std") or 0) >= 0


def _is_shallow(value: Any) -> bool:
    """Whether a value is nested at most `_MAX_DEPTH` levels deep."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
        level = [item for item in level if isinstance(item, dict | list)]
    return not level


def _different(values: Iterable[Any], good: Callable[[Any], bool]) -> bool:
    """Whether there are values, all good and all different."""
    found = list(values)
    return bool(found) and all(map(good, found)) and len(set(found)) == len(found)


def _are_events(value: Any) -> bool:
    return isinstance(value, list) and all(_is_whole(event) and event < _MAX_NUMBER for event in value)


def _are_splits(value: dict[str, Any]) -> bool:
    return set(SPLITS) <= set(value) and all(map(_is_name, value)) and all(map(_are_events, value.values()))


def _is_selection(value: dict[str, Any]) -> bool:
    removed = value.get("removed_frames", {})
    is_listed = isinstance(removed, dict) and all(map(_are_events, removed.values()))
    return _is_whole(value.get("min_strong_pixels")) and value["min_strong_pixels"] < _MAX_NUMBER and is_listed


def _are_groups(value: dict[str, Any]) -> bool:
    """Whether a value maps event numbers to names of groups."""
    is_numbered = all(event.isdecimal() and event == str(int(event)) and int(event) < _MAX_NUMBER for event in value)
    return is_numbered and not any(map(problem_of_group, value.values()))


def _are_origins(value: dict[str, Any]) -> bool:
    """Whether a value lists places, and different events with the number of their place and their times."""
    places, events = value.get("places"), value.get("events")
    if set(value) != {"places", "events"} or not isinstance(places, list) or not isinstance(events, list):
        return False
    if not all(isinstance(row, list) and len(row) == 4 and set(map(type, row)) == {int} for row in events):
        return False
    is_timed = all(
        0 <= event < _MAX_NUMBER and 0 <= place < len(places) and -_MAX_SECONDS <= start <= stop <= _MAX_SECONDS
        for event, place, start, stop in events
    )
    return is_timed and len({row[0] for row in events}) == len(events) and all(map(_is_place, places))


def _is_place(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and not problem_of_group(value[0]) and (value[1] is None or is_extent(value[1]))


_FIELDS: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "variables": (list, lambda value: _different(value, lambda name: name in VARIABLES)),
    "heights_km": (list, lambda value: _different(value, _is_number)),
    "shape": (list, lambda value: len(value) == 2 and all(_is_whole(side) and side > 0 for side in value)),
    "spacing_km": (int | float, _is_positive),
    "time_step_minutes": (int | float, _is_positive),
    "units": (dict, lambda value: all(_is_name(name) and isinstance(unit, str) for name, unit in value.items())),
    "splits": (dict, _are_splits),
    "statistics": (dict, lambda value: all(map(_is_statistic, value.values()))),
    "selection": (dict, _is_selection),
    "provenance": (dict, lambda value: isinstance(value.get("derived", {}), dict) and _is_shallow(value)),
}
_OPTIONAL: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "groups": (dict, _are_groups),
    "origins": (dict, _are_origins),
}
"""Fields that a manifest may lack."""


def _short(value: Any) -> str:
    """Represent a value in a few characters of one line."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
