"""The verb `polarcast bench`."""

from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.data.folder_kind import checked_kind
from polarcast.hpc.cli.show import open_board, show_tables
from polarcast.hpc.utils.console import Json
from polarcast.hpc.utils.sources import SUITES, yaml_source


def bench(
    suite: Annotated[str, typer.Argument(help="Built-in suite such as demo, or a YAML file.")],
    archive: Annotated[
        Path | None, typer.Option(help="Archive in the layout of NJU-CPOL to use instead of the suite's data.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split rule: paper, or shares such as 0.6/0.15/0.25.")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; runs/<suite> by default.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time; chosen for the machine by default.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Train the seeds of a model in one process, step by step; for GPUs.")
    ] = False,
    tables_only: Annotated[bool, typer.Option("--tables-only", help="Write tables of finished runs only.")] = False,
    as_json: bool = Json,
) -> None:
    """Run every cell of a suite and print tables of radar vs dual-pol; complete cells are not run again.

    Example: polarcast bench demo --archive /data/NJU-CPOL --split paper --out runs/nju
    """
    if workers is not None and workers < 1:
        raise BadInput(f"{workers} is too small", "--workers", "give 1 or more")
    if out:
        checked_kind(checked_output(out, is_folder=True), "a suite")
    if archive and not archive.is_dir():
        raise BadInput("no such folder", archive, "give an archive in the layout of NJU-CPOL")
    yaml_source(suite, SUITES, "suite")
    from polarcast.hpc.bench.cells import SuiteFolder
    from polarcast.hpc.bench.run import finished_tables, run_suite
    from polarcast.hpc.bench.suite import load_suite, without_synthetic_rows

    spec = load_suite(suite)
    if archive:
        spec.data.archive = str(archive.resolve())
        spec = without_synthetic_rows(spec)
    spec.data.split = split or spec.data.split
    folder = SuiteFolder(checked_kind(out or Path("runs") / spec.name, "a suite"), spec.data)
    with open_board() as board:
        tables = finished_tables(spec, folder) if tables_only else run_suite(spec, folder, workers, board, together)
    show_tables(tables, folder.path, as_json)
