"""What a forecast is made of: one event of an archive, of shards, or a radar volume, brought to shards."""

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
_WHAT = "give an event's folder, an archive or shards with --event, or a radar volume"
_LISTED = 12

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Input:
    """An event as shards.

    Attributes:
        name: What the user gave, in short.
        event: Its number.
        manifest: Of shards in which it is the only test event; every frame of it is a window.
        note: What is known of it beyond its fields (`Archive.event_note`); empty for shards and published archives.
    """

    name: str
    event: int
    manifest: Manifest
    note: dict[str, Any]


@contextmanager
def open_input(
    path: Path, config: RunConfig, event: int | None, size: int, tell: OnProgress | None = None
) -> Iterator[Input]:
    """Open what a forecast is to be made of; what has to be written for it lies in a temporary folder.

    Args:
        path: An event's folder of an archive, an archive, a folder of shards or one of them, or a radar volume.
        config: Of the run that is to forecast: its variables and heights are read.
        event: Which event, where there are several.
        size: Pixels of 1 km a side to which a volume is gridded.
        tell: Called with (what, done, total).

    Raises:
        BadInput: none of these, damaged, without what the run reads, or the event isn't there or has to be chosen.
    """
    tell = tell or (lambda *_: None)
    name = path.absolute().name
    with TemporaryDirectory(prefix="polarcast-predict-") as scratch:
        if path.suffix == ".tar" or (path / NAME).is_file():
            yield _of_shards(path, event)
        elif path.is_dir():
            archive, numbered = _archive_of(path)
            yield _of_archive(name, archive, _chosen(numbered, event, path), config, Path(scratch), tell)
        elif path.is_file():
            archive = _gridded(path, config, size, Path(scratch), tell)
            number = _chosen(list(archive.frames), event, path)
            yield _of_archive(name, archive, number, config, Path(scratch), tell)
        else:
            raise BadInput("no such file or folder", path, _WHAT)


def _of_shards(path: Path, event: int | None) -> Input:
    manifest = read_manifest(path.parent if path.suffix == ".tar" else path)
    rows = manifest.samples
    if path.suffix == ".tar":
        names = [shard.name for shard in manifest.shards]
        if path.name not in names:
            raise BadInput("its folder's manifest does not know it", path, "index it with: polarcast data index FOLDER")
        rows = rows[rows[:, 0] == names.index(path.name)]
    number = _chosen(sorted({int(e) for e in rows[:, 1 + EVENT]}), event, path)
    holding = np.unique(manifest.samples[manifest.samples[:, 1 + EVENT] == number, 0]).tolist()
    for shard, problem in bad_shards(manifest, holding, sums=True).items():
        raise BadInput(problem, manifest.folder / manifest.shards[shard].name, "copy it again, or shard again")
    return Input(path.absolute().name, number, _only(manifest, number), {})


def _only(manifest: Manifest, event: int) -> Manifest:
    """The shards with one event to test on, and every frame of it: also those too weak to learn from."""
    return replace(
        manifest,
        splits={"train": (), "validation": (), "test": (event,)},
        selection={**manifest.selection, "min_strong_pixels": 0},
    )


def _archive_of(path: Path) -> tuple[Archive, list[int]]:
    """The archive that a folder is, or that an event's folder lies in; and the events that are meant."""
    if not (found := _EVENT_FOLDER.fullmatch(path.name)):
        archive = open_archive(path)
        return archive, list(archive.frames)
    folder = path.absolute()
    # The outermost: notes and the rain lie beside the radar's folder.
    for root in reversed(folder.parents[:4]):
        try:
            archive = open_archive(root)
        except BadInput:
            continue
        if any(base and folder.is_relative_to(base) for base in (archive.radar_root, archive.rain_root)):
            return archive, sorted({int(found[1])} & set(archive.frames))
    raise BadInput("lies in no archive", path, "its fields belong below dBZ/, ZDR/, KDP/ of one folder")


def _of_archive(name: str, archive: Archive, event: int, config: RunConfig, scratch: Path, tell: OnProgress) -> Input:
    wanted = archive.select(config.variables(), sorted(config.data.heights_km))
    alone = replace(wanted, frames={event: archive.frames[event]})
    tell("reading", 0, 1)
    manifest = write_shards(alone, scratch / "shards", split="all-test")
    tell("reading", 1, 1)
    return Input(name, event, manifest, archive.event_note(event))


def _gridded(path: Path, config: RunConfig, size: int, scratch: Path, tell: OnProgress) -> Archive:
    """The archive that ingest makes of one volume, with the run's variables and heights and without a rain grid."""
    from polarcast.data.ingest.jobs import is_gridded
    from polarcast.data.ingest.run import NO_RAIN, IngestSettings, ingest
    from polarcast.data.ingest.volumes.frame import VolumeSettings
    from polarcast.data.ingest.volumes.gridding import Grid

    if is_gridded(path):
        raise BadInput("a gridded sequence, no radar volume", path, "first: polarcast data ingest ARCHIVE FILE")
    variables = ("zh", *(v for v in config.variables() if v != "zh"))
    grid = Grid(size, heights_km=tuple(sorted(config.data.heights_km)))
    settings = IngestSettings(VolumeSettings(grid, variables, rain=NO_RAIN))
    out = scratch / "archive"
    if failed := ingest(out, [path], settings, on_progress=tell).failed:
        raise BadInput(next(iter(failed.values())), path)
    return open_archive(out)


def _chosen(events: Sequence[int], wanted: int | None, where: Path) -> int:
    if wanted is None and len(events) == 1:
        return events[0]
    more = ", …" if len(events) > _LISTED else ""
    there = f"there are: {', '.join(map(str, events[:_LISTED]))}{more}" if events else "it has none with frames"
    if wanted is None:
        raise BadInput(f"{len(events)} events", where, f"choose one with --event; {there}" if events else there)
    if wanted not in events:
        raise BadInput(f"no event {wanted}", where, there)
    return wanted
