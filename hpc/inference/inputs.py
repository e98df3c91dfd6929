"""Forecast inputs: convert one event of an archive, of shards, or a radar volume to shards."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from polarcast.data.archive import TIME_STEP_MINUTES, Archive, open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.health import bad_shards
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.shards.samples import EVENT
from polarcast.data.shards.write import write_shards
from polarcast.hpc.config.schema import RunConfig

_EVENT_FOLDER = re.compile(r"data_dir_(\d+)")
_ACCEPTED = "give an event's folder, an archive or shards with --event, a radar volume or a gridded sequence"
_INGEST = "run first: polarcast data ingest ARCHIVE FILE"
_LISTED = 12
_LARGER = ", or a larger --size if they are tiles of a grid"
_OF_ARCHIVES = ("archive.json", "dBZ", "NJU_CPOL_update2308", "NJU_CPOL_kdpRain")
_STEP, _SMALLEST = 16, 8
"""Pixels by which the side of a sequence's tile shrinks until it fits: nets halve grids up to four times."""

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Input:
    """One event as shards.

    Attributes:
        name: Base name of the input path.
        event: Number of the event.
        manifest: Manifest of shards with this event as the only test event; every frame is a window.
        note: Metadata of the event (`Archive.event_note`); empty for shards and published archives.
        warnings: What was assumed about the input, one line each.
    """

    name: str
    event: int
    manifest: Manifest
    note: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _SequenceFacts:
    """What decides how a gridded sequence is tiled, and what has to be said of it.

    Attributes:
        tile: Side in pixels of the largest tile, a multiple of 16 unless the grid is smaller.
        has_levels: Whether its data have heights.
        is_derived: Whether zh is derived from rain.
        is_plane: Whether its axes are in km, not in degrees.
    """

    tile: int
    has_levels: bool
    is_derived: bool
    is_plane: bool


@contextmanager
def open_input(
    path: Path,
    config: RunConfig,
    event: int | None,
    size: int,
    on_progress: OnProgress | None = None,
    step_minutes: float = TIME_STEP_MINUTES,
) -> Iterator[Input]:
    """Open the input of a forecast; temporary shards are deleted on exit.

    Args:
        path: Event folder of an archive, archive, folder of shards, one shard, radar volume, gridded sequence, or a
            folder of either.
        config: Configuration of the run; selects variables and heights.
        event: Event number; required if there are several.
        size: Pixels per side, of 1 km each, of a gridded volume; the most of a gridded sequence.
        on_progress: Called with (stage, done, total).
        step_minutes: Time between frames that volumes and sequences are brought to.

    Raises:
        BadInput: the input is none of these, is damaged or lacks a variable or height; or the event is missing or
            ambiguous.
    """
    on_progress = on_progress or (lambda *_: None)
    name = checked_input(path).absolute().name
    with TemporaryDirectory(prefix="polarcast-predict-") as scratch:
        if path.suffix == ".tar" or (path / NAME).is_file():
            yield _of_shards(path, event)
        elif path.is_dir() and not _is_to_ingest(path):
            archive, numbered = _archive_of(path)
            yield _of_archive(name, archive, _chosen(numbered, event, path), config, Path(scratch), on_progress)
        elif path.is_file() or path.is_dir():
            archive, facts, left_out = _ingested(path, config, size, step_minutes, Path(scratch), on_progress)
            number = _chosen(list(archive.frames), event, path, _LARGER if facts else "")
            source = _of_archive(name, archive, number, config, Path(scratch), on_progress)
            yield replace(source, warnings=(*left_out, *(_assumptions(facts, source.note, config) if facts else ())))
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


def _is_to_ingest(folder: Path) -> bool:
    """Return whether a folder is a Zarr store, or holds files that are not those of an archive."""
    from polarcast.data.ingest.jobs import is_gridded

    if is_gridded(folder):
        return True
    if _EVENT_FOLDER.fullmatch(folder.name) or any((folder / name).exists() for name in _OF_ARCHIVES):
        return False
    return any(file.is_file() and not file.name.startswith(".") for file in folder.iterdir())


def _ingested(
    path: Path, config: RunConfig, size: int, step_minutes: float, scratch: Path, on_progress: OnProgress
) -> tuple[Archive, _SequenceFacts | None, list[str]]:
    """Ingest volumes, without a rain grid, or sequences to an archive with the run's variables and heights.

    Returns:
        The archive, the facts of a sequence, and a line for each file of a folder that can't be read.
    """
    from polarcast.data.ingest.jobs import is_gridded
    from polarcast.data.ingest.ranges import PIXELS, check_range
    from polarcast.data.ingest.run import IngestSettings, files_of, ingest

    with _named(path):
        first = files_of([path])[0]
        check_range("size", size, *PIXELS)
        every = _keeping_all(config, step_minutes)
        facts = _facts_of(first, every, size) if is_gridded(first) else None
        settings = (
            IngestSettings(sequences=replace(every, tile=facts.tile))
            if facts
            else IngestSettings(volumes=_of_volumes(config, size, step_minutes))
        )
        report = ingest(scratch / "archive", [path], settings, on_progress=on_progress)
    if report.failed and (path.is_file() or not report.events):
        file, line = next(iter(report.failed.items()))
        what, _, fix = line.partition(" — ")
        raise BadInput(what, path if path.is_file() else file, _followable(fix))
    if not report.events:
        raise BadInput(", ".join(report.dropped) or "no frame in it", path, _INGEST)
    lines = [f"{Path(file).name} is left out: {line.partition(' — ')[0]}" for file, line in report.failed.items()]
    return open_archive(scratch / "archive"), facts, lines


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the input in errors of the ingestion, with advice that a forecast can follow."""
    try:
        yield
    except BadInput as error:
        raise BadInput(error.what, path, _followable(error.fix)) from None


def _of_volumes(config: RunConfig, size: int, step_minutes: float) -> Any:
    from polarcast.data.ingest.run import NO_RAIN
    from polarcast.data.ingest.volumes.frame import VolumeSettings
    from polarcast.data.ingest.volumes.gridding import Grid

    variables = ("zh", *(v for v in config.variables() if v != "zh"))
    grid = Grid(size, heights_km=tuple(sorted(config.data.heights_km)))
    return VolumeSettings(grid, variables, rain=NO_RAIN, step_minutes=step_minutes)


def _keeping_all(config: RunConfig, step_minutes: float) -> Any:
    """Return settings of a sequence that keep every frame and every tile, with the heights of the run."""
    from polarcast.data.ingest.grids.settings import GridSettings

    heights = tuple(sorted(config.data.heights_km))
    return GridSettings(
        step_minutes=step_minutes, heights_km=heights, height_km=_height_without_levels(config),
        min_coverage=0, min_echo_pixels=0, min_frames=1,
    )  # fmt: skip


def _height_without_levels(config: RunConfig) -> float:
    """Return the height that data without levels are taken for: the only one that the run reads, or the lowest."""
    return min(config.data.heights_km)


def _facts_of(first: Path, settings: Any, size: int) -> _SequenceFacts:
    """Read the facts of a sequence in a process of its own. Raises BadInput, see `open_source`."""
    from polarcast.data.workers import run_all

    [(_, found)] = run_all(_read_facts, [(first, settings, size)], 1)
    if isinstance(found, BadInput):
        raise found
    return found


def _read_facts(job: tuple[Path, Any, int]) -> _SequenceFacts:
    from polarcast.data.ingest.grids.source import open_source

    path, settings, size = job
    source = open_source(path, settings)
    sides = (*range(size - size % _STEP, 0, -_STEP), _SMALLEST)
    tile = next((side for side in sides if side <= size and source.geometry.tiles(side)), size)
    has_levels = source.heights_km is not None and bool(source.measured)
    return _SequenceFacts(tile, has_levels, not source.measured, source.geometry.corner is None)


def _assumptions(facts: _SequenceFacts, note: Mapping[str, Any], config: RunConfig) -> tuple[str, ...]:
    """Return warnings about what a sequence does not tell, and about where its tile is."""
    lines = []
    if facts.is_derived:
        lines.append("zh is derived from rain by Z = 200 R^1.6")
    if not facts.has_levels:
        lines.append(f"the data have no height; taken as those at {_height_without_levels(config):g} km")
    tile = note.get("tile", {})
    if tile:
        side, south, east = tile["size_km"], tile["south_km"], tile["east_km"]
        origin = "western edge" if facts.is_plane else "central meridian"
        lines.append(
            f"the forecast covers {side} × {side} km; its north-west corner is {south:g} km south of the grid's "
            f"northern edge and {east:g} km east of its {origin}"
        )
    return tuple(lines)


def _followable(fix: str) -> str:
    """Return advice for an ingestion as advice for a forecast, which has only its `--size`."""
    options = [option for option in re.findall(r"--[a-z-]+", fix) if option != "--size"]
    return f"{_INGEST} with {' and '.join(dict.fromkeys(options))}, then predict on ARCHIVE" if options else fix


def _chosen(events: Sequence[int], event: int | None, where: Path, other: str = "") -> int:
    """Return the number of the event. Raises BadInput, with also `other` as advice, if it is not known."""
    if event is None and len(events) == 1:
        return events[0]
    more = ", …" if len(events) > _LISTED else ""
    available = f"choose from: {', '.join(map(str, events[:_LISTED]))}{more}" if events else "no event has frames"
    if event is None:
        raise BadInput(
            f"{len(events)} events", where, f"select one with --event{other}; {available}" if events else available
        )
    if event not in events:
        raise BadInput(f"no event {event}", where, available)
    return event
