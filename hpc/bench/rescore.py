"""Score the trained models of a finished suite on another archive."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.bench.cells import Cell, SuiteFolder, cells_of
from polarcast.hpc.bench.notes import rain_note
from polarcast.hpc.bench.run import Tables, is_synthetic, paths_of, write_tables
from polarcast.hpc.bench.suite import Suite, load_suite, without_synthetic_rows
from polarcast.hpc.bench.unfinished import finished_part, is_scored
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.evaluation.shards import shards_of
from polarcast.hpc.runs.folder import Output
from polarcast.hpc.runs.trained_grid import unlike_training
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.hpc.utils.text import printable

_log = logging.getLogger("polarcast")


def is_suite(path: Path) -> bool:
    """Return whether a folder is that of a suite, not of a single run."""
    return (Path(path) / SUITE_FILE).is_file()


def saved_suite(path: Path) -> Suite:
    """Load the suite that was run in a folder. Raises BadInput if there is none."""
    return load_suite(str(Path(path) / SUITE_FILE), is_stored=True)


def rescore(path: Path, archive: Path, board: ProgressBoard) -> tuple[Tables, Path]:
    """Score every run of a suite on all events of an archive.

    Args:
        path: Folder of a finished suite.
        archive: An archive or a folder of shards.
        board: Progress board.

    Returns:
        The tables, with titles that name the archive, and the folder they were written to. They leave out models of
        which a run can't be scored, and name them in a note.

    Raises:
        BadInput: no run can be scored, because the suite is not finished, or the archive lacks variables or heights
            that they read; or another process scores this suite on this archive.
    """
    suite = saved_suite(path)
    folder = SuiteFolder(path, suite.data)
    trained_on = read_manifest(folder.shards)
    out = path / "on" / archive.resolve().name
    with sole_writer(checked_output(out, is_folder=True)):
        manifest = shards_of(archive, out, board)
        if not is_synthetic(manifest):
            suite = without_synthetic_rows(suite)
        outputs = score_cells(cells_of(suite, folder.shards), folder, trained_on, manifest, out, board)
        part, scored, missing = finished_part(suite, outputs, out)
        name = printable(archive.resolve().name)
        titled = {n: replace(t, title=f"{t.title}; scored on {name}") for n, t in part.tables.items()}
        note = "; ".join(filter(None, [rain_note(suite.task, manifest), missing]))
        part, path_of = replace(part, tables=titled), paths_of(folder, trained_on)
        return write_tables(part, out, scored, path_of, note, manifest), out


def score_cells(
    cells: Sequence[Cell],
    folder: SuiteFolder,
    trained_on: Manifest,
    manifest: Manifest,
    out: Path,
    board: ProgressBoard,
    resume: bool = False,
) -> list[tuple[Cell, Output]]:
    """Score runs of a suite; log a warning for each that can't be scored.

    Args:
        cells: Runs to score.
        folder: Folder of the suite.
        trained_on: Shards that they were trained on.
        manifest: Shards to score on, all of them test events.
        out: Folder for the records.
        board: Progress board.
        resume: Whether to keep records that exist and are of these shards.

    Raises:
        BadInput: no run can be scored.
    """
    failures, outputs, told = list[BadInput](), [], set[str]()
    with board.stage("evaluate", "runs", len(cells)) as done:
        for number, cell in enumerate(cells, start=1):
            run = folder.cell(cell, trained_on)
            for line in {*unlike_training(run, cell.config, manifest)} - told:
                _log.warning("polarcast: %s", line)
                told.add(line)
            output = Output(out / "scores" / f"{run.path.name}.parquet", out / "cases" / f"{run.path.name}.npz")
            try:
                if not (resume and is_scored(output) and read_records(output.scores).data == manifest.digest()):
                    evaluate(run, manifest, output)
            except BadInput as error:
                output.scores.unlink(missing_ok=True)
                failures.append(error)
                _log.warning("polarcast: not scored: %s", error)
            outputs.append((cell, output))
            done(number)
    if len(failures) == len(cells):
        raise failures[0]
    return outputs
