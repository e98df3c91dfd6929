"""Ingest files into an archive, in parallel and resumable; a bad file does not affect the others."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.ingest.archive_settings import GENERATOR, NO_RAIN, check_folder, remove_empty_archive
from polarcast.data.ingest.jobs import EventJob, InputFile, is_gridded, write_one
from polarcast.data.ingest.one_kind import of_one_kind
from polarcast.data.ingest.plan_sequences import events_of_sequences
from polarcast.data.ingest.plan_volumes import events_of_volumes
from polarcast.data.ingest.report import IngestReport
from polarcast.data.ingest.session import CACHE, IngestSettings, OnProgress, Session
from polarcast.data.notes import read_event_note
from polarcast.data.workers import run_all

__all__ = ["GENERATOR", "NO_RAIN", "IngestReport", "IngestSettings", "files_of", "ingest"]

_OURS = {CACHE, ".lock"}
_IDENTICAL = "file identical to another"


def ingest(
    out: Path, inputs: Sequence[Path], settings: IngestSettings, workers: int = 1, on_progress: OnProgress | None = None
) -> IngestReport:
    """Convert radar volumes or gridded sequences to events of the archive `out`.

    Inputs that the archive already contains are skipped. The same call therefore resumes an interrupted run, and a call
    with more files adds them. One process at a time writes to an archive; another is refused.

    Args:
        out: Folder of the archive; created if missing.
        inputs: Files, Zarr folders, or folders of files; volumes or sequences, see `one_kind.of_one_kind`.
        settings: Settings for gridding, tiling and resampling.
        workers: Number of processes.
        on_progress: Callback with (stage, done, total).

    Raises:
        BadInput: There are no inputs or many of both kinds, the archive was made with other settings or can't be
            written, or another process writes there.
    """
    progress = on_progress or (lambda *_: None)
    report = IngestReport()
    files = files_of(inputs)
    check_folder(checked_output(out, is_folder=True), _OURS)
    with sole_writer(out):
        try:
            sources = of_one_kind(_sources(files, report, progress), settings.sequences, report)
            if sources:
                session = Session(out, settings, workers, report, progress, run_all)
                plan = events_of_sequences if is_gridded(Path(sources[0].file)) else events_of_volumes
                _write_events(session, plan(session, sources))
            shutil.rmtree(out / CACHE, ignore_errors=True)
        finally:
            remove_empty_archive(out)
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
            report.drop(_IDENTICAL, 1, [str(path)])
        sources.setdefault(source.sha256, source)
        progress("sums", number, len(files))
    return list(sources.values())


def _write_events(session: Session, jobs: Sequence[EventJob]) -> None:
    written = session.results(write_one, jobs, [job.name for job in jobs], "events")
    events = sorted(number for _, number in written)
    session.report.events += events
    session.report.add_notes(read_event_note(session.out, number) for number in events)
