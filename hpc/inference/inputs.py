"""Forecast inputs: convert one event of an archive, of shards, or a radar volume to shards."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from polarcast.data.archive import Archive, open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.health import bad_shards
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.shards.samples import EVENT
from polarcast.data.shards.write import write_shards
from polarcast.hpc.config.schema import RunConfig

_EVENT_FOLDER = re.compile(r"data_dir_(\d+)")
_ACCEPTED = "give an event's folder, an archive or shards with --event, or a radar volume"
_INGEST = "run first: polarcast data ingest ARCHIVE FILE"
_LISTED = 12

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Input:
    """One event as shards.

    Attributes:
        name: Base name of the input path.
        event: Number of the event.
        manifest: Manifest of shards with this event as the only test event; every frame is a window.
        note: Metadata of the event (`Archive.event_note`); empty for shards and published archives.
    """

    name: str
    event: int
    manifest: Manifest
    note: dict[str, Any]


@contextmanager
def open_input(
    path: Path, config: RunConfig, event: int | None, size: int, on_progress: OnProgress | None = None
) -> Iterator[Input]:
    """Open the input of a forecast; temporary shards are deleted on exit.

    Args:
        path: Event folder of an archive, archive, folder of shards, one shard, or radar volume.
        config: Configuration of the run; selects variables and heights.
        event: Event number; required if there are several.
        size: Pixels per side, of 1 km each, of a gridded volume.
        on_progress: Called with (stage, done, total).

    Raises:
        BadInput: the input is none of these, is damaged or lacks a variable or height; or the event is missing or
            ambiguous.
    """
    on_progress = on_progress or (lambda *_: None)
    name = checked_input(path).absolute().name
    with TemporaryDirectory(prefix="polarcast-predict-") as scratch:
        if path.suffix == ".tar" or (path / NAME).is_file():
            yield _of_shards(path, event)
        elif path.is_dir():
            archive, numbered = _archive_of(path)
            yield _of_archive(name, archive, _chosen(numbered, event, path), config, Path(scratch), on_progress)
        elif path.is_file():
            archive = _gridded(path, config, size, Path(scratch), on_progress)
            number = _chosen(list(archive.frames), event, path)
            yield _of_archive(name, archive, number, config, Path(scratch), on_progress)
        else:
            raise BadInput("neither a file nor a folder", path, _ACCEPTED)


def checked_input(path: Path) -> Path:
    """Return the path of an input. Raises BadInput if there is nothing at this path."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        reason = "no such file or folder" if is_missing else getattr(error, "strerror", None) or str(error)
        raise BadInput(reason, path, _ACCEPTED) from None
    return path


def _of_shards(path: Path, event: int | None) -> Input:
    manifest = read_manifest(path.parent if path.suffix == ".tar" else path)
    rows = manifest.samples
    if path.suffix == ".tar":
        names = [shard.name for shard in manifest.shards]
        if path.name not in names:
            raise BadInput(
                "not listed in the manifest of its folder", path, "index it with: polarcast data index FOLDER"
            )
        rows = rows[rows[:, 0] == names.index(path.name)]
    number = _chosen(sorted({int(e) for e in rows[:, 1 + EVENT]}), event, path)
    holding = np.unique(manifest.samples[manifest.samples[:, 1 + EVENT] == number, 0]).tolist()
    for shard, problem in bad_shards(manifest, holding, sums=True).items():
        raise BadInput(
            problem, manifest.folder / manifest.shards[shard].name, "copy it again, or write the shards again"
        )
    return Input(path.absolute().name, number, _only(manifest, number), {})


def _only(manifest: Manifest, event: int) -> Manifest:
    """Return the shards with one test event and all of its frames, including those too weak for training."""
    return replace(
        manifest,
        splits={"train": (), "validation": (), "test": (event,)},
        selection={**manifest.selection, "min_strong_pixels": 0},
    )


def _archive_of(path: Path) -> tuple[Archive, list[int]]:
    """Return the archive of a folder or of an event's folder, and the selected events."""
    if not (found := _EVENT_FOLDER.fullmatch(path.name)):
        archive = open_archive(path)
        return archive, list(archive.frames)
    folder = path.absolute()
    # Try the outermost folder first: notes and rain are stored next to the radar folder.
    for root in reversed(folder.parents[:4]):
        try:
            archive = open_archive(root)
        except BadInput:
            continue
        if any(base and folder.is_relative_to(base) for base in (archive.radar_root, archive.rain_root)):
            return archive, sorted({int(found[1])} & set(archive.frames))
    raise BadInput("not part of an archive", path, "put its fields below dBZ/, ZDR/, KDP/ of one folder")


def _of_archive(
    name: str, archive: Archive, event: int, config: RunConfig, scratch: Path, on_progress: OnProgress
) -> Input:
    selected = archive.select(config.variables(), sorted(config.data.heights_km))
    alone = replace(selected, frames={event: archive.frames[event]})
    on_progress("reading", 0, 1)
    manifest = write_shards(alone, scratch / "shards", split="all-test")
    on_progress("reading", 1, 1)
    return Input(name, event, manifest, archive.event_note(event))


def _gridded(path: Path, config: RunConfig, size: int, scratch: Path, on_progress: OnProgress) -> Archive:
    """Ingest one volume to an archive with the run's variables and heights, without a rain grid."""
    from polarcast.data.ingest.jobs import is_gridded
    from polarcast.data.ingest.run import NO_RAIN, IngestSettings, ingest
    from polarcast.data.ingest.volumes.frame import VolumeSettings
    from polarcast.data.ingest.volumes.gridding import Grid

    if is_gridded(path):
        raise BadInput("a gridded sequence, not a radar volume", path, _INGEST)
    variables = ("zh", *(v for v in config.variables() if v != "zh"))
    grid = Grid(size, heights_km=tuple(sorted(config.data.heights_km)))
    settings = IngestSettings(VolumeSettings(grid, variables, rain=NO_RAIN))
    out = scratch / "archive"
    try:
        report = ingest(out, [path], settings, on_progress=on_progress)
    except BadInput as error:
        raise BadInput(error.what, path, _followable(error.fix)) from None
    for line in report.failed.values():
        what, _, fix = line.partition(" — ")
        raise BadInput(what, path, _followable(fix))
    if not report.events:
        raise BadInput(", ".join(report.dropped) or "no frame in it", path, _INGEST)
    return open_archive(out)


def _followable(fix: str) -> str:
    """Return advice for an ingestion as advice for a forecast, which has only its `--size`."""
    options = [option for option in re.findall(r"--[a-z-]+", fix) if option != "--size"]
    return f"{_INGEST} with {' and '.join(dict.fromkeys(options))}, then predict on ARCHIVE" if options else fix


def _chosen(events: Sequence[int], event: int | None, where: Path) -> int:
    if event is None and len(events) == 1:
        return events[0]
    more = ", …" if len(events) > _LISTED else ""
    available = f"choose from: {', '.join(map(str, events[:_LISTED]))}{more}" if events else "no event has frames"
    if event is None:
        raise BadInput(f"{len(events)} events", where, f"select one with --event; {available}" if events else available)
    if event not in events:
        raise BadInput(f"no event {event}", where, available)
    return event
