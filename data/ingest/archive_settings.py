"""Claim the folder of an archive: record its kind and settings, and refuse others."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.events import derivation
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.volumes.frame import VolumeSettings, current_terms
from polarcast.data.notes import ARCHIVE_NOTE, read_archive_note, write_archive_note

GENERATOR = "polarcast data ingest"
NO_RAIN = "none"


def check_folder(out: Path, ours: set[str]) -> None:
    """Check that a folder is new, empty, or an archive of an earlier ingestion.

    Args:
        out: Folder.
        ours: Names of files in it that do not count.

    Raises:
        BadInput: It is none of them.
    """
    is_empty = not out.is_dir() or all(p.name in ours for p in out.iterdir())
    if not is_empty and read_archive_note(out).get("generator") != GENERATOR:
        raise BadInput("the folder is not empty and was not made by ingest", out, "choose a new folder")


def claim_archive(
    out: Path, kind: str, settings: VolumeSettings | GridSettings, rain: str, measured: Sequence[str] = ()
) -> None:
    """Write archive.json, or check that the existing one has the same settings.

    Args:
        out: Folder of the archive.
        kind: `volumes` or `sequences`.
        settings: Their settings.
        rain: What the rain grid is, or `NO_RAIN`.
        measured: Radar variables of sequences; none if zh is derived from rain.

    Raises:
        BadInput: The archive was made with other settings.
    """
    requested = {
        "generator": GENERATOR,
        "kind": kind,
        "rain": rain,
        "settings": asdict(settings),
        "time_step_min": settings.step_minutes,
        "spacing_km": settings.grid.spacing_km if isinstance(settings, VolumeSettings) else 1.0,
    }
    if isinstance(settings, GridSettings) and not measured:
        requested["derived"] = {"zh": derivation(settings)}
    existing = read_archive_note(out)
    if not existing:
        write_archive_note(out, requested)
        return
    if isinstance(existing.get("settings"), dict):
        # Settings that an earlier version did not have were at their defaults.
        existing = {**existing, "settings": {**asdict(type(settings)()), **current_terms(existing["settings"])}}
    # Through JSON, so that tuples and lists compare equal.
    existing = json.loads(json.dumps(existing))
    if differing := sorted(k for k, v in json.loads(json.dumps(requested)).items() if existing.get(k) != v):
        raise BadInput(
            f"the archive was made with other settings: {_difference(differing, existing, requested)}",
            out / ARCHIVE_NOTE,
            "use the same options, or choose another folder",
        )


def remove_empty_archive(out: Path) -> None:
    """Remove the note of an archive to which no event was written; its folder goes with the lock, if it is new."""
    if {p.name for p in out.iterdir()} == {ARCHIVE_NOTE, ".lock"}:
        (out / ARCHIVE_NOTE).unlink()


def _difference(keys: Sequence[str], existing: dict[str, Any], requested: dict[str, Any]) -> str:
    """Describe what differs, with single settings instead of all of them."""
    if "settings" in keys:
        before, now = existing["settings"], json.loads(json.dumps(requested["settings"]))
        changed = [k for k in now if before.get(k) != now[k]]
        keys = [*changed, *(k for k in keys if k not in ("settings", *changed))]
        existing, requested = {**existing, **before}, {**requested, **now}
    return ", ".join(f"{k} is {existing.get(k)!r} in the archive, {requested[k]!r} now" for k in keys)
