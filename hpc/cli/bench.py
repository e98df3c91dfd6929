"""The verbs `polarcast bench`: run a suite."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.data.folder_kind import checked_kind
from polarcast.hpc.cli.bundle import bundle, verify
from polarcast.hpc.cli.cluster import job
from polarcast.hpc.cli.default_verb import DefaultVerb
from polarcast.hpc.cli.show import open_board, show_tables
from polarcast.hpc.cli.status import status
from polarcast.hpc.utils.console import Json, split_names
from polarcast.hpc.utils.exit_codes import INTERRUPTED
from polarcast.hpc.utils.sources import SUITES, yaml_source

if TYPE_CHECKING:
    from polarcast.hpc.bench.cells import SuiteFolder
    from polarcast.hpc.bench.run import Tables
    from polarcast.hpc.bench.suite import Suite


class _RunByDefault(DefaultVerb):
    default = "run"


app = typer.Typer(cls=_RunByDefault, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Run a suite and print tables of radar vs dual-pol.

    `bench SUITE` is short for `bench run SUITE`, whose options `bench run --help` shows.

    Example: polarcast bench demo; on a cluster: polarcast bench demo --cluster cpu; then: polarcast bench status demo

    Example: polarcast bench demo --archive /data/NJU-CPOL --split paper --out runs/nju
    """


_Suite = Annotated[str, typer.Argument(help="Built-in suite such as demo, or a YAML file.")]
_Archive = Annotated[
    Path | None, typer.Option(help="Archive in the layout of NJU-CPOL to use instead of the suite's data.")
]
_Split = Annotated[str | None, typer.Option(help="Split rule: paper, or shares such as 0.6/0.15/0.25.")]
_Out = Annotated[Path | None, typer.Option(help="Output folder; runs/<suite> by default.")]
_Workers = Annotated[int | None, typer.Option(help="Runs at a time; chosen for the machine by default.")]
_Together = Annotated[
    bool, typer.Option("--together", help="Train the seeds of a model in one process, step by step; for GPUs.")
]
_TablesOnly = Annotated[bool, typer.Option("--tables-only", help="Write tables of finished runs only.")]
_Confirm = Annotated[
    bool, typer.Option("--confirm", help="Score finished rows once on fresh storms, or on a held-back --archive.")
]
_Models = Annotated[str | None, typer.Option(help="With --confirm: models to score, such as unet,fitted.")]
_Cluster = Annotated[
    str | None, typer.Option(help="Submit the cells as Slurm jobs, by a built-in profile or a YAML file.")
]
_AtMost = Annotated[int, typer.Option(min=0, help="With --cluster: elements at once; 0: as many as Slurm allows.")]
_Wait = Annotated[bool, typer.Option("--wait", help="With --cluster: follow the jobs until they end.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="With --cluster: print the job scripts; submit nothing.")]


@app.command()
def run(
    suite: _Suite,
    archive: _Archive = None,
    split: _Split = None,
    out: _Out = None,
    workers: _Workers = None,
    together: _Together = False,
    tables_only: _TablesOnly = False,
    confirm: _Confirm = False,
    models: _Models = None,
    cluster: _Cluster = None,
    at_most: _AtMost = 0,
    wait: _Wait = False,
    dry_run: _DryRun = False,
    as_json: bool = Json,
) -> None:
    """Run every cell of a suite and print tables of radar vs dual-pol; complete cells are not run again.

    The suite's data are an archive, or are generated, or are fetched from an open archive and ingested. Fetching needs
    the extras `fetch` and `ingest` of the package; its volumes stay in OUT/raw.

    --confirm trains nothing. It scores rows of the finished suite on an archive of another seed, or on events that were
    held back, writes the tables to <suite>/confirm, and counts how often that archive was looked at.

    --cluster submits jobs instead: one for the data, arrays of cells, and one for the tables. They need no further
    command; the same one finds them, and submits what failed. With --together, the seeds of a model share a job.

    Example: polarcast bench demo --archive /data/NJU-CPOL --split paper --out runs/nju

    Example: polarcast bench open-nexrad

    Example: polarcast bench standard --cluster mine.yaml --at-most 16
    """
    if models and not confirm:
        raise BadInput("needs --confirm", "--models", "add --confirm, or leave it out")
    local = {"--workers": workers, "--tables-only": tables_only}
    on_cluster = {"--at-most": at_most, "--wait": wait, "--dry-run": dry_run}
    if confirm:
        trains = {"--split": split, "--together": together, "--tables-only": tables_only, "--cluster": cluster}
        _check_alone(trains, "--confirm")
    _check_alone(local, "--cluster") if cluster else _check_needs(on_cluster, "--cluster")
    _check_paths(suite, archive, out, workers)
    if confirm:
        _confirm(suite, out, split_names(models), archive, workers, as_json)
        return
    spec, folder = _suite_in(suite, archive, split, out)
    if cluster:
        from polarcast.hpc.cli.cluster import ClusterOptions, bench_on_cluster

        bench_on_cluster(spec, folder, ClusterOptions(cluster, at_most, together, dry_run, wait, as_json))
    else:
        show_tables(_run_here(spec, folder, workers, together, tables_only), folder.path, as_json)


app.command()(status)
app.command()(bundle)
app.command()(verify)
app.command(hidden=True)(job)


def _check_alone(options: Mapping[str, object], beside: str) -> None:
    """Raise BadInput if an option is given beside another one that it does not go with."""
    if given := [name for name, value in options.items() if value]:
        raise BadInput(f"does not go with {beside}", given[0], "leave it out")


def _check_needs(options: Mapping[str, object], needed: str) -> None:
    """Raise BadInput if an option is given without the one that it needs."""
    if given := [name for name, value in options.items() if value]:
        raise BadInput(f"needs {needed}", given[0], f"add {needed}, or leave it out")


def _check_paths(suite: str, archive: Path | None, out: Path | None, workers: int | None) -> None:
    """Check what a command line names, before anything heavy is imported."""
    if workers is not None and workers < 1:
        raise BadInput(f"{workers} is too small", "--workers", "give 1 or more")
    if out:
        checked_kind(checked_output(out, is_folder=True), "a suite")
    if archive and not archive.is_dir():
        raise BadInput("no such folder", archive, "give an archive in the layout of NJU-CPOL")
    yaml_source(suite, SUITES, "suite")


def _suite_in(suite: str, archive: Path | None, split: str | None, out: Path | None) -> "tuple[Suite, SuiteFolder]":
    """Return a suite with the data that the command line names, and its folder."""
    from polarcast.data.splits import check_rule
    from polarcast.hpc.bench.cells import SuiteFolder
    from polarcast.hpc.bench.suite import load_suite, without_synthetic_rows

    spec = load_suite(suite)
    if archive:
        spec.data = replace(spec.data, archive=str(archive.resolve()), fetch=None, ingest=None)
    if archive or spec.data.fetch:
        spec = without_synthetic_rows(spec)
    if split:
        check_rule(split)
        spec.data.split = split
    return spec, SuiteFolder(checked_kind(out or Path("runs") / spec.name, "a suite"), spec.data)


def _run_here(
    spec: "Suite", folder: "SuiteFolder", workers: int | None, together: bool, tables_only: bool
) -> "Tables":  # fmt: skip
    """Run a suite on this machine, or build the tables of its finished part."""
    from polarcast.hpc.bench.run import finished_tables, run_suite

    try:
        with open_board() as board:
            return finished_tables(spec, folder) if tables_only else run_suite(spec, folder, workers, board, together)
    except KeyboardInterrupt:  # Typer would end without a word
        print("polarcast: interrupted — run the same command to continue", file=sys.stderr, flush=True)
        raise typer.Exit(INTERRUPTED) from None


def _confirm(
    suite: str, out: Path | None, models: list[str] | None, archive: Path | None, workers: int | None, as_json: bool
) -> None:
    from polarcast.data.cores import usable_cores
    from polarcast.hpc.bench.confirm import confirm
    from polarcast.hpc.bench.rescore import is_suite
    from polarcast.hpc.bench.suite import load_suite

    folder = out or Path("runs") / load_suite(suite).name
    if not is_suite(folder):
        raise BadInput("no finished suite", folder, f"run it first: polarcast bench {suite}")
    with open_board() as board:
        tables, written = confirm(folder, models, archive, workers or usable_cores(), board)
    show_tables(tables, written, as_json)
