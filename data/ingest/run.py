"""Ingest files into an archive, in parallel and resumable; a bad file does not affect the others."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from polarcast.data.archive import VARIABLES
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.ingest.claims import check_claims
from polarcast.data.ingest.formats import holds_a_volume
from polarcast.data.ingest.grids.events import Piece, derivation
from polarcast.data.ingest.grids.frames import open_dataset, read_errors_as_bad_input
from polarcast.data.ingest.grids.grib_file import is_grib
from polarcast.data.ingest.grids.joining import joined_files
from polarcast.data.ingest.grids.odim_file import is_composite
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.jobs import (
    EventJob,
    HeaderJob,
    InputFile,
    PieceJob,
    Plan,
    PlanJob,
    SequenceHeaderJob,
    VolumeEventJob,
    VolumeJob,
    describe_one,
    describe_sequence,
    grid_one,
    is_gridded,
    name_of,
    plan_one,
    sha256_of,
    write_one,
)
from polarcast.data.ingest.volumes.events import group_scans
from polarcast.data.ingest.volumes.frame import VolumeSettings, current_terms
from polarcast.data.ingest.volumes.pieces import grouped
from polarcast.data.notes import ARCHIVE_NOTE, event_notes, read_archive_note, write_archive_note
from polarcast.data.workers import run_all

GENERATOR = "polarcast data ingest"
NO_RAIN = "none"
_CACHE = ".ingest"
_OURS = {_CACHE, ".lock"}
_IDENTITY = re.compile(r"([^/]+)/([0-9]{1,9})-([0-9]{1,9})/(.+)")
"""Identity in an event's note: SHA-256 of the file's content, range of frames, and tile; see `piece_identity`."""

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class IngestSettings:
    """Settings of an ingestion.

    Attributes:
        volumes: Settings for radar volumes.
        sequences: Settings for gridded sequences.
        pictures: Whether to draw every event.
    """

    volumes: VolumeSettings = field(default_factory=VolumeSettings)
    sequences: GridSettings = field(default_factory=GridSettings)
    pictures: bool = False


@dataclass
class IngestReport:
    """Result of an ingestion."""

    events: list[int] = field(default_factory=list)
    """Numbers of the events written by this call."""
    known: list[str] = field(default_factory=list)
    """Inputs that the archive already contains."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reason by input that could not be used."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Number of dropped parts of inputs by reason."""

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {"events": self.events, "known": self.known, "failed": self.failed, "dropped": dict(self.dropped)}


def ingest(
    out: Path, inputs: Sequence[Path], settings: IngestSettings, workers: int = 1, on_progress: OnProgress | None = None
) -> IngestReport:
    """Convert radar volumes or gridded sequences to events of the archive `out`.

    Inputs that the archive already contains are skipped. The same call therefore resumes an interrupted run, and a call
    with more files adds them. One process at a time writes to an archive; another is refused.

    Args:
        out: Folder of the archive; created if missing.
        inputs: Files, Zarr folders, or folders of files; volumes or sequences, not both.
        settings: Settings for gridding, tiling and resampling.
        workers: Number of processes.
        on_progress: Callback with (stage, done, total).

    Raises:
        BadInput: There are no inputs or both kinds at once, the archive was made with other settings or can't be
            written, or another process writes there.
    """
    progress = on_progress or (lambda *_: None)
    report = IngestReport()
    files = files_of(inputs)
    _check_folder(checked_output(out, is_folder=True))
    with sole_writer(out):
        try:
            sources = _of_one_kind(_sources(files, report, progress), out, report)
            if sources:
                make = _jobs_of_sequences if is_gridded(Path(sources[0].file)) else _jobs_of_volumes
                _write_events(make(out, sources, settings, workers, report, progress), workers, report, progress)
            shutil.rmtree(out / _CACHE, ignore_errors=True)
        finally:
            _remove_empty_archive(out)
    return report


def files_of(inputs: Sequence[Path]) -> list[Path]:
    """Return the files of inputs, those of folders sorted by name, each once. Raises BadInput if there are none."""
    found = []
    for path in inputs:
        try:
            if not path.exists():
                raise BadInput("no such file or folder", path, "give radar volumes or gridded sequences")
            is_folder = path.is_dir() and not is_gridded(path)
            found += sorted(p for p in path.iterdir() if not p.name.startswith(".")) if is_folder else [path]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadInput(f"can't be read ({reason})", ascii(str(path))[1:-1], "check its permissions") from None
    found = list(dict.fromkeys(found))
    if special := [p for p in found if not (p.is_file() or p.is_dir())]:
        raise BadInput("not a file or folder", special[0], "give radar volumes or gridded sequences")
    if not found:
        raise BadInput("nothing to ingest", ", ".join(map(str, inputs)), "give radar volumes or gridded sequences")
    return found


def _of_one_kind(sources: Sequence[InputFile], out: Path, report: IngestReport) -> list[InputFile]:
    """Return the sources, which are all volumes or all sequences; among volumes, report sequences that are damaged.

    Raises:
        BadInput: There are both, and a sequence is not damaged.
    """
    sequences = {s for s in sources if is_gridded(Path(s.file))}
    if len(sequences) in (0, len(sources)):
        return list(sources)
    unusable = {s.file: problem for s in sequences if (problem := _problem(Path(s.file)))}
    left = [s for s in sources if s.file not in unusable]
    if sequences & set(left):
        raise BadInput("volumes and gridded sequences in one call", out, "ingest them into separate archives")
    report.failed.update(unusable)
    return left


def _problem(path: Path) -> str:
    """Return why a gridded sequence can't be opened; empty if it can."""
    try:
        with read_errors_as_bad_input(path):
            check_claims(path)
            is_other = path.suffix == ".npz" or is_grib(path) or is_composite(path)
            with nullcontext() if is_other else open_dataset(path):
                return ""
    except BadInput as error:
        return error.reason


def _sources(files: Sequence[Path], report: IngestReport, progress: OnProgress) -> list[InputFile]:
    """Hash the files; files with identical content count once."""
    sources: dict[str, InputFile] = {}
    for number, path in enumerate(files, start=1):
        try:
            source = InputFile.of(path)
        except OSError as error:
            report.failed[str(path)] = f"can't be read ({error.strerror}) — check its permissions"
            continue
        if source.sha256 in sources:
            report.dropped["file identical to another"] += 1
        sources.setdefault(source.sha256, source)
        progress("sums", number, len(files))
    return list(sources.values())


def _jobs_of_volumes(
    out: Path,
    sources: Sequence[InputFile],
    settings: IngestSettings,
    workers: int,
    report: IngestReport,
    progress: OnProgress,
) -> list[EventJob]:
    """Grid every volume that is not in an event yet, and return one job for each group of consecutive scans."""
    _claim(out, "volumes", settings.volumes, settings.volumes.rain_note)
    known = {s["sha256"] for note in event_notes(out).values() for s in note.get("sources", ())}
    report.known += [s.file for s in sources if s.sha256 in known]
    cache = out / _CACHE
    cache.mkdir(exist_ok=True)
    fresh = [s for s in sources if s.sha256 not in known]
    jobs = [
        VolumeJob(tuple(group), cache / f"{sha256_of(group)}.npz", settings.volumes)
        for group in _volumes_of(fresh, workers, report, progress)
    ]
    scans = list(_gather(run_all(grid_one, jobs, workers), [j.name for j in jobs], "volumes", report, progress))
    groups, unused = group_scans(scans, settings.volumes.max_gap_minutes)
    report.dropped.update(["volumes of the same radar and second as another"] * len(unused))
    numbers = _free_numbers(out)
    return [VolumeEventJob(out, next(numbers), settings.volumes, settings.pictures, tuple(group)) for group in groups]


def _volumes_of(
    sources: Sequence[InputFile], workers: int, report: IngestReport, progress: OnProgress
) -> list[list[InputFile]]:
    """Return the files of each volume: most often one, or its pieces."""
    whole = {source for source in sources if holds_a_volume(Path(source.file))}
    others = [source for source in sources if source not in whole]
    outcomes = run_all(describe_one, [HeaderJob(source) for source in others], workers)
    return [[source] for source in sources if source in whole] + _joined(outcomes, others, grouped, report, progress)


def _joined(
    outcomes: Iterator[tuple[int, Any]],
    sources: Sequence[InputFile],
    join: Callable[[Sequence[Any]], list[list[int]]],
    report: IngestReport,
    progress: OnProgress,
) -> list[list[InputFile]]:
    """Return the files that belong together by their headers; files whose header can't be read are reported."""
    headers: dict[int, Any] = {}
    for done, (index, outcome) in enumerate(outcomes, start=1):
        progress("headers", done, len(sources))
        if isinstance(outcome, BadInput):
            report.failed[sources[index].file] = outcome.reason
        else:
            headers[index] = outcome
    order = sorted(headers)
    return [[sources[order[i]] for i in group] for group in join([headers[i] for i in order])]


def _jobs_of_sequences(
    out: Path,
    sources: Sequence[InputFile],
    settings: IngestSettings,
    workers: int,
    report: IngestReport,
    progress: OnProgress,
) -> list[EventJob]:
    """Return one job for each tile and period that is not an event yet."""
    groups = _sequences_of(out, sources, settings.sequences, workers, report, progress)
    plans = [PlanJob(tuple(group), settings.sequences) for group in groups]
    found = sorted(
        _gather(run_all(plan_one, plans, workers), [name_of(g) for g in groups], "sequences", report, progress),
        key=lambda plan: plan.sources[0].file,
    )
    if not found:
        return []
    _claim(out, "sequences", settings.sequences, "as given" if found[0].has_rain else NO_RAIN, found[0].measured)
    known = _known_parts(out)
    earlier = {tuple(n for n in VARIABLES if n in note.get("units", {})) for note in event_notes(out).values()}
    numbers = _free_numbers(out)
    jobs: list[EventJob] = []
    for plan in found:
        fresh = [p for p in plan.pieces if not _is_known(p, known.get((sha256_of(plan.sources), p.tile), ()))]
        if fresh and (problem := _difference_of_plans(plan, found[0], earlier)):
            report.failed[name_of(plan.sources)] = f"{problem}: ingest it into another archive"
            continue
        report.dropped.update(plan.dropped)
        report.known += [s.file for s in plan.sources] if plan.pieces and not fresh else []
        jobs += [PieceJob(out, next(numbers), settings.sequences, settings.pictures, plan.sources, p) for p in fresh]
    return jobs


def _difference_of_plans(plan: Plan, first: Plan, earlier: set[tuple[str, ...]]) -> str:
    """Return what a sequence has unlike the first one, or unlike the archive's events; empty if it is like them.

    Args:
        plan: The sequence.
        first: The first one.
        earlier: Radar variables of the events of the archive.
    """
    if plan.has_rain != first.has_rain:
        return "not the first file's quantity (rain or reflectivity)"
    if (plan.measured, plan.heights_km) != (first.measured, first.heights_km):
        return "not the first file's variables and heights"
    return "" if not earlier or plan.variables in earlier else "not the variables of the archive's events"


def _sequences_of(
    out: Path,
    sources: Sequence[InputFile],
    settings: GridSettings,
    workers: int,
    report: IngestReport,
    progress: OnProgress,
) -> list[list[InputFile]]:
    """Return the files of each sequence: those of events of the archive as they were joined, then new ones.

    A file of an event is not joined with new ones, because its frames would then be in two events.
    """
    by_sum = {s.sha256: s for s in sources}
    earlier = {tuple(s["sha256"] for s in note.get("sources", ())) for note in event_notes(out).values()}
    groups = [[by_sum[sha] for sha in group] for group in sorted(earlier) if group and by_sum.keys() >= set(group)]
    resumed = {s.sha256 for group in groups for s in group}
    known = {sha for group in earlier for sha in group} - resumed
    report.known += [s.file for s in sources if s.sha256 in known]
    fresh = [s for s in sources if s.sha256 not in known | resumed]
    if len(fresh) < 2:
        return groups + [[s] for s in fresh]
    outcomes = run_all(describe_sequence, [SequenceHeaderJob(s, settings) for s in fresh], workers)
    join = partial(joined_files, max_gap_minutes=settings.max_gap_minutes)
    return groups + _joined(outcomes, fresh, join, report, progress)


def _known_parts(out: Path) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Return the frame ranges of the events that an archive has of each file's content and tile."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for note in event_notes(out).values():
        if parts := _IDENTITY.fullmatch(str(note.get("identity"))):
            content, start, stop, tile = parts.groups()
            found.setdefault((content, tile), []).append((int(start), int(stop)))
    return found


def _is_known(piece: Piece, ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether an event holds the piece: earlier versions did not divide long records into days."""
    return any(start <= piece.start and piece.stop <= stop for start, stop in ranges)


def _write_events(jobs: Sequence[EventJob], workers: int, report: IngestReport, progress: OnProgress) -> None:
    names = [job.name for job in jobs]
    report.events += sorted(_gather(run_all(write_one, jobs, workers), names, "events", report, progress))


def _gather(
    outcomes: Iterator[tuple[int, Any]], names: Sequence[str], what: str, report: IngestReport, progress: OnProgress
) -> Iterator[Any]:
    """Yield the results, and add failures to the report under their names."""
    for done, (index, outcome) in enumerate(outcomes, start=1):
        progress(what, done, len(names))
        if isinstance(outcome, BadInput):
            report.failed[names[index]] = outcome.reason
        else:
            yield outcome


def _free_numbers(out: Path) -> Iterator[int]:
    taken = set(event_notes(out))
    return (n for n in count() if n not in taken)


def _check_folder(out: Path) -> None:
    """Check that a folder is new, empty, or an archive of an earlier ingestion."""
    is_empty = not out.is_dir() or all(p.name in _OURS for p in out.iterdir())
    if not is_empty and read_archive_note(out).get("generator") != GENERATOR:
        raise BadInput("the folder is not empty and was not made by ingest", out, "choose a new folder")


def _claim(
    out: Path, kind: str, settings: VolumeSettings | GridSettings, rain: str, measured: Sequence[str] = ()
) -> None:
    """Write archive.json, or check that the existing one has the same settings."""
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


def _remove_empty_archive(out: Path) -> None:
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
