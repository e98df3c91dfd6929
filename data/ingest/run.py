"""Files in, an archive out: in parallel, resumable, and no bad file costs more than itself."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.events import derivation
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.jobs import (
    EventJob,
    InputFile,
    PieceJob,
    PlanJob,
    VolumeEventJob,
    VolumeJob,
    grid_one,
    is_gridded,
    piece_identity,
    plan_one,
    write_one,
)
from polarcast.data.ingest.volumes.events import group_scans
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.notes import ARCHIVE_NOTE, event_notes, read_archive_note, write_archive_note
from polarcast.data.workers import run_all

GENERATOR = "polarcast data ingest"
NO_RAIN = "none"
_CACHE = ".ingest"

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class IngestSettings:
    """How files become events.

    Attributes:
        volumes: How radar volumes are gridded.
        sequences: How gridded sequences are tiled and resampled.
        pictures: Whether to draw every event.
    """

    volumes: VolumeSettings = field(default_factory=VolumeSettings)
    sequences: GridSettings = field(default_factory=GridSettings)
    pictures: bool = False


@dataclass
class IngestReport:
    """What came of it."""

    events: list[int] = field(default_factory=list)
    """Numbers of the events written now."""
    known: list[str] = field(default_factory=list)
    """Inputs that the archive holds already."""
    failed: dict[str, str] = field(default_factory=dict)
    """Input → why it was left out."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Why parts of inputs were not taken, and how many."""

    def as_record(self) -> dict[str, Any]:
        """For `--json`."""
        return {"events": self.events, "known": self.known, "failed": self.failed, "dropped": dict(self.dropped)}


def ingest(
    out: Path, inputs: Sequence[Path], settings: IngestSettings, workers: int = 1, on_progress: OnProgress | None = None
) -> IngestReport:
    """Turn radar volumes or gridded sequences into events of the archive `out`.

    What an event of the archive was made from is not read again: a stopped run is continued by the same call, and more
    files are added by another.

    Args:
        out: Folder of the archive, created where needed.
        inputs: Files, Zarr folders, or folders of files; volumes or sequences, not both.
        settings: How.
        workers: Processes.
        on_progress: Called with (what, done, total).

    Raises:
        BadInput: no inputs, both kinds at once, or the archive was made otherwise.
    """
    tell = on_progress or (lambda *_: None)
    report = IngestReport()
    sources = _sources(_files(inputs), report, tell)
    kinds = {is_gridded(Path(s.file)) for s in sources}
    if len(kinds) == 2:
        raise BadInput("volumes and gridded sequences in one call", out, "ingest them into two archives")
    make = _jobs_of_sequences if kinds == {True} else _jobs_of_volumes
    jobs = make(out, sources, settings, workers, report, tell)
    _write_events(jobs, workers, report, tell)
    shutil.rmtree(out / _CACHE, ignore_errors=True)
    _leave_nothing_empty(out)
    return report


def _files(inputs: Sequence[Path]) -> list[Path]:
    found = []
    for path in inputs:
        if not path.exists():
            raise BadInput("no such file or folder", path, "give radar volumes or gridded sequences")
        is_folder = path.is_dir() and not is_gridded(path)
        found += sorted(p for p in path.iterdir() if not p.name.startswith(".")) if is_folder else [path]
    if not found:
        raise BadInput("nothing to ingest", ", ".join(map(str, inputs)), "give radar volumes or gridded sequences")
    return list(dict.fromkeys(found))


def _sources(files: Sequence[Path], report: IngestReport, tell: OnProgress) -> list[InputFile]:
    """Files with their sums; a file given twice under two names counts once."""
    sources: dict[str, InputFile] = {}
    for number, path in enumerate(files, start=1):
        source = InputFile.of(path)
        if source.sha256 in sources:
            report.dropped["file identical to another"] += 1
        sources.setdefault(source.sha256, source)
        tell("sums", number, len(files))
    return list(sources.values())


def _jobs_of_volumes(
    out: Path,
    sources: Sequence[InputFile],
    settings: IngestSettings,
    workers: int,
    report: IngestReport,
    tell: OnProgress,
) -> list[EventJob]:
    """Grid every volume that is in no event yet; then what belongs together is one job."""
    _claim(out, "volumes", settings.volumes, "product of KDP" if settings.volumes.has_rain else NO_RAIN)
    known = {s["sha256"] for note in event_notes(out).values() for s in note["sources"]}
    report.known += [s.file for s in sources if s.sha256 in known]
    cache = out / _CACHE
    cache.mkdir(exist_ok=True)
    jobs = [VolumeJob(s, cache / f"{s.sha256}.npz", settings.volumes) for s in sources if s.sha256 not in known]
    scans = list(_gather(run_all(grid_one, jobs, workers), [j.source.file for j in jobs], "volumes", report, tell))
    groups = group_scans(scans, settings.volumes.max_gap_minutes)
    numbers = _free_numbers(out)
    return [VolumeEventJob(out, next(numbers), settings.volumes, settings.pictures, tuple(group)) for group in groups]


def _jobs_of_sequences(
    out: Path,
    sources: Sequence[InputFile],
    settings: IngestSettings,
    workers: int,
    report: IngestReport,
    tell: OnProgress,
) -> list[EventJob]:
    """Every tile of every stretch of time that is no event yet is one job."""
    plans = [PlanJob(s, settings.sequences) for s in sources]
    found = sorted(
        _gather(run_all(plan_one, plans, workers), [s.file for s in sources], "sequences", report, tell),
        key=lambda plan: plan.source.file,
    )
    if not found:
        return []
    _claim(out, "sequences", settings.sequences, "as given" if found[0].has_rain else NO_RAIN)
    known = {note.get("identity") for note in event_notes(out).values()}
    numbers = _free_numbers(out)
    jobs: list[EventJob] = []
    for plan in found:
        if plan.has_rain != found[0].has_rain:
            report.failed[plan.source.file] = "not of the first file's kind (rain or reflectivity): ingest it by itself"
            continue
        report.dropped.update(plan.dropped)
        fresh = [p for p in plan.pieces if piece_identity(plan.source, p) not in known]
        report.known += [plan.source.file] * (bool(plan.pieces) and not fresh)
        jobs += [PieceJob(out, next(numbers), settings.sequences, settings.pictures, plan.source, p) for p in fresh]
    return jobs


def _write_events(jobs: Sequence[EventJob], workers: int, report: IngestReport, tell: OnProgress) -> None:
    names = [job.name for job in jobs]
    report.events += sorted(_gather(run_all(write_one, jobs, workers), names, "events", report, tell))


def _gather(
    outcomes: Iterator[tuple[int, Any]], names: Sequence[str], what: str, report: IngestReport, tell: OnProgress
) -> Iterator[Any]:
    """Results alone; what failed goes into the report under its name."""
    for done, (index, outcome) in enumerate(outcomes, start=1):
        tell(what, done, len(names))
        if isinstance(outcome, BadInput):
            report.failed[names[index]] = " — ".join(filter(None, (outcome.what, outcome.fix)))
        else:
            yield outcome


def _free_numbers(out: Path) -> Iterator[int]:
    taken = set(event_notes(out))
    return (n for n in count() if n not in taken)


def _claim(out: Path, kind: str, settings: VolumeSettings | GridSettings, rain: str) -> None:
    """Write archive.json, or make sure that the one there says the same."""
    mine = {
        "generator": GENERATOR,
        "kind": kind,
        "rain": rain,
        "settings": asdict(settings),
        "time_step_min": settings.step_minutes,
        "spacing_km": settings.grid.spacing_km if isinstance(settings, VolumeSettings) else 1.0,
    }
    if isinstance(settings, GridSettings) and rain != NO_RAIN:
        mine["derived"] = {"zh": derivation(settings)}
    there = read_archive_note(out)
    if not there:
        if out.is_dir() and any(p for p in out.iterdir() if p.name != _CACHE):
            raise BadInput("the folder is not empty and was not made by ingest", out, "give a new folder")
        out.mkdir(parents=True, exist_ok=True)
        write_archive_note(out, mine)
        return
    # As JSON, so that tuples and lists are the same.
    if differing := sorted(k for k, v in json.loads(json.dumps(mine)).items() if there.get(k) != v):
        raise BadInput(
            f"the archive was made otherwise: {_difference(differing, there, mine)}",
            out / ARCHIVE_NOTE,
            "use the same options, or give another folder",
        )


def _leave_nothing_empty(out: Path) -> None:
    """Take back an archive that nothing went into."""
    if out.is_dir() and {p.name for p in out.iterdir()} == {ARCHIVE_NOTE}:
        shutil.rmtree(out)


def _difference(keys: Sequence[str], there: dict[str, Any], mine: dict[str, Any]) -> str:
    if keys == ["settings"]:
        before, now = there["settings"], json.loads(json.dumps(mine["settings"]))
        keys, there, mine = [k for k in now if before.get(k) != now[k]], before, now
    return ", ".join(f"{k} is {there.get(k)!r} there, {mine[k]!r} here" for k in keys)
