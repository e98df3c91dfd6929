"""Metadata of archives written by polarcast: JSON files next to the fields, written atomically."""

import json
import math
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_limited, write_text

ARCHIVE_NOTE = "archive.json"
_EVENT_NOTES = "events"
_REMEDY = "delete it, or make the archive again"

Note = dict[str, Any]


def read_archive_note(root: Path) -> Note:
    """Read the metadata of an archive; empty for a published one. Raises BadInput if it is damaged."""
    return _read(root / ARCHIVE_NOTE)


def write_archive_note(root: Path, note: Note) -> None:
    """Write the metadata of an archive."""
    _write(root / ARCHIVE_NOTE, note)


def read_event_note(root: Path, event: int) -> Note:
    """Read the metadata of one event; empty for a published archive. Raises BadInput if it is damaged."""
    return _read(_event_path(root, event))


def write_event_note(root: Path, event: int, note: Note) -> None:
    """Write the metadata of one event."""
    _write(_event_path(root, event), note)


def event_notes(root: Path) -> dict[int, Note]:
    """Metadata of all completely written events that have any, by event number."""
    names = sorted((Path(root) / _EVENT_NOTES).glob("data_dir_*.json"))
    numbers = {name: name.stem.removeprefix("data_dir_") for name in names}
    return {int(number): _read(name) for name, number in numbers.items() if number.isdecimal()}


def number_of(note: Note, key: str, default: float, root: Path) -> float:
    """Return a positive number of an archive's metadata. Raises BadInput if it is none."""
    value = note.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise BadInput(f"{key} is {value!r}, not a positive number", root / ARCHIVE_NOTE, _REMEDY)
    return float(value)


def _event_path(root: Path, event: int) -> Path:
    return root / _EVENT_NOTES / f"data_dir_{event:03d}.json"


def _read(path: Path) -> Note:
    if not path.exists():
        return {}
    try:
        note = json.loads(read_limited(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"damaged metadata ({error})", path, _REMEDY) from None
    if not isinstance(note, dict):
        raise BadInput("damaged metadata (not an object)", path, _REMEDY)
    return note


def _write(path: Path, note: Note) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(note, indent=1))
