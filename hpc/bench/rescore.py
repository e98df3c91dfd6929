"""Score the trained models of a finished suite on another archive."""

from dataclasses import replace
from pathlib import Path

from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.notes import rain_note
from polarcast.hpc.bench.run import Tables, is_paper_archive, write_tables
from polarcast.hpc.bench.suite import Suite, load_suite, without_synthetic_rows
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.evaluation.shards import shards_of
from polarcast.hpc.runs.folder import Output
from polarcast.hpc.utils.progress import ProgressBoard


def is_suite(path: Path) -> bool:
    """Return whether a folder is that of a suite, not of a single run."""
    return (Path(path) / "suite.yaml").is_file()


def saved_suite(path: Path) -> Suite:
    """Load the suite that was run in a folder. Raises BadInput if there is none."""
    return load_suite(str(Path(path) / "suite.yaml"))


def rescore(path: Path, archive: Path, board: ProgressBoard) -> tuple[Tables, Path]:
    """Score every run of a suite on all events of an archive.

    Args:
        path: Folder of a finished suite.
        archive: An archive or a folder of shards.
        board: Progress board.

    Returns:
        The tables, with titles that name the archive, and the folder they were written to.

    Raises:
        BadInput: the suite is not finished, or the archive lacks variables or heights that its runs read.
    """
    suite = saved_suite(path)
    folder = SuiteFolder(path, suite.data)
    trained_on = read_manifest(folder.shards)
    out = path / "on" / archive.resolve().name
    manifest = shards_of(archive, out, board)
    if "preset" not in manifest.provenance:
        suite = without_synthetic_rows(suite)
    cells = cells_of(suite, folder.shards)
    outputs = []
    with board.stage("evaluate", "runs", len(cells)) as done:
        for number, cell in enumerate(cells, start=1):
            run = folder.cell(cell, trained_on)
            output = Output(out / "scores" / f"{run.path.name}.parquet", out / "cases" / f"{run.path.name}.npz")
            evaluate(run, manifest, output)
            outputs.append((cell, output))
            done(number)
    titled = {n: replace(t, title=f"{t.title}; scored on {archive.resolve().name}") for n, t in suite.tables.items()}
    rescored = replace(suite, tables=titled)
    return write_tables(rescored, out, outputs, rain_note(suite.task, manifest), is_paper_archive(manifest)), out
