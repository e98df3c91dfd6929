"""The command line. Everything heavy is imported inside the verbs, so that `--help` answers at once."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polarcast.hpc.bench.progress import Board
    from polarcast.hpc.bench.run import Tables
    from polarcast.hpc.bench.summary import Summary

from polarcast.hpc import cli_data, cli_leaderboard, cli_perf, cli_predict, cli_submit, cli_sweep, cli_track
from polarcast.hpc.console import Json, print_json, print_text, progress, report_findings, run_app, stderr

app = typer.Typer(
    name="polarcast",
    help="What does dual polarization contribute to nowcasting and rain estimation, and how sure are we?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_perf.app, name="perf")
app.add_typer(cli_track.app, name="track")
app.command()(cli_submit.submit)
app.command()(cli_sweep.sweep)
app.command()(cli_leaderboard.leaderboard)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_text(f"polarcast {version('polarcast')}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error in the input."),
) -> None:
    if debug:
        os.environ["POLARCAST_DEBUG"] = "1"


@app.command()
def train(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="demo, standard, paper, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<preset>-<arm>-s<seed> by default.")] = None,
    processes: Annotated[int, typer.Option(help="Processes on this machine; torchrun and srun set their own.")] = 1,
    as_json: bool = Json,
) -> None:
    """Train one model, or continue where its run folder stopped.

    Example: polarcast train demo data.shards=shards arm=radar train.steps=500 --out runs/radar
    """
    from polarcast.data.shards.manifest import read_manifest
    from polarcast.hpc.config import load_config
    from polarcast.hpc.launch import end_with_launcher, launch_local
    from polarcast.hpc.lifeline import sole_writer
    from polarcast.hpc.micro_batch import share_of
    from polarcast.hpc.run_folder import RunFolder
    from polarcast.hpc.world import detect, one_gpu_each, visible_gpus

    end_with_launcher()
    config = load_config(source, overrides or [])
    folder = out or Path("runs") / f"{Path(source).stem}-{config.arm}-s{config.seed}"
    if processes > 1 and "RANK" not in os.environ:
        # What is wrong is better told once than by every rank.
        read_manifest(config.data.shards)
        share_of(config.train, processes)
        one_gpu_each(processes, visible_gpus(), "--processes")
        launch_local(["train", source, *(overrides or []), "--out", str(folder)], processes)
    else:
        from polarcast.hpc.train import train as train_run

        world = detect()
        with progress("train", config.train.steps, world.is_first) as show, sole_writer(folder, world.is_first):
            train_run(config, RunFolder(folder), world, lambda n, of, loss: show(n, of, f"loss {loss:.4f}"))
        if not world.is_first:
            return
    _report_training(RunFolder(folder).path, as_json)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of a suite such as runs/demo.")],
    archive: Annotated[Path | None, typer.Option(help="Score on all events of this archive (or shards).")] = None,
    split: Annotated[str, typer.Option(help="Split of the run's own shards.")] = "test",
    scores: Annotated[
        list[str] | None, typer.Option(help="usual, all, or scores such as csi@threshold=10,window=*; may be repeated.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Axis: lead_time, class (of what was observed), threshold, height.")
    ] = None,
    aggregation: Annotated[str, typer.Option(help="pooled over events, or mean of the events' scores.")] = "pooled",
    recorded: Annotated[bool, typer.Option("--recorded", help="From the records of the last evaluation.")] = False,
    processes: Annotated[int, typer.Option(help="Processes on this machine; torchrun and srun set their own.")] = 1,
    as_json: bool = Json,
) -> None:
    """Score a trained run, or all runs of a suite, on their test events or on another archive.

    Example: polarcast evaluate runs/unet --scores all --by class, or: polarcast evaluate runs/demo --archive NJU-CPOL
    """
    from polarcast.hpc.bench.rescore import is_suite, rescore
    from polarcast.hpc.bench.single import Wanted, evaluate_run
    from polarcast.hpc.launch import end_with_launcher, launch_local
    from polarcast.hpc.world import detect

    end_with_launcher()
    if processes > 1 and "RANK" not in os.environ and not is_suite(run):
        asked = [("--archive", archive), ("--split", split), ("--by", by), ("--aggregation", aggregation)]
        options = [text for name, value in asked if value is not None for text in (name, str(value))]
        options += [text for score in scores or () for text in ("--scores", score)]
        flags = ["--recorded"] * recorded + ["--json"] * as_json
        launch_local(["evaluate", str(run), *options, *flags], processes)
        return
    world = detect()
    with _board(quiet=not world.is_first) as board:
        if not is_suite(run):
            wanted = Wanted(tuple(scores or ["usual"]), by, aggregation, recorded)
            found, about = evaluate_run(run, archive, split, board, world, wanted)
            if world.is_first:
                _show_summary(found, about, as_json)
            return
        if archive is None:
            from polarcast.data.errors import BadInput

            raise BadInput("a suite is scored by bench", run, "give --archive, or one run folder below cells/")
        tables, folder = rescore(run, archive, board)
    _show_tables(tables, folder, as_json)


app.command()(cli_predict.predict)


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(help="Name of a suite that comes with polarcast (demo), or a YAML file.")],
    archive: Annotated[Path | None, typer.Option(help="An NJU-CPOL folder, in place of the suite's data.")] = None,
    split: Annotated[str | None, typer.Option(help="Split rule, such as paper or 0.6/0.15/0.25.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/<suite> by default.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time; by default what the machine bears.")] = None,
    tables_only: Annotated[bool, typer.Option("--tables-only", help="Tables from finished runs, nothing new.")] = False,
    as_json: bool = Json,
) -> None:
    """Run every cell of a suite and print the radar-vs-dual-pol tables; what is complete is not run again.

    Example: polarcast bench demo --archive /data/NJU-CPOL --split paper --out runs/nju
    """
    from polarcast.hpc.bench.run import SuiteFolder, finished_tables, run_suite
    from polarcast.hpc.bench.suite import load_suite, without_synthetic_rows

    spec = load_suite(suite)
    if archive:
        spec.data.archive = str(archive.resolve())
        spec = without_synthetic_rows(spec)
    spec.data.split = split or spec.data.split
    folder = SuiteFolder(out or Path("runs") / spec.name, spec.data)
    with _board() as board:
        tables = finished_tables(spec, folder) if tables_only else run_suite(spec, folder, workers, board)
    _show_tables(tables, folder.path, as_json)


@app.command()
def estimate(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="demo, standard, paper, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 256,
    gpu_gib: Annotated[float, typer.Option(help="Memory of one GPU that may be filled.")] = 72.0,
    tflops: Annotated[float, typer.Option(help="What one GPU reaches on such a model, in TFLOP/s.")] = 50.0,
    as_json: bool = Json,
) -> None:
    """Parameters, FLOPs, memory by ZeRO stage, reads and GPU-hours of a run, before it starts.

    Example: polarcast estimate paper --gpu-gib 36 --tflops 40
    """
    from polarcast.hpc.config import load_config
    from polarcast.hpc.estimate import estimate as told_of
    from polarcast.hpc.render_estimate import render

    told = told_of(load_config(source, overrides or []), (size, size), gpu_gib, tflops)
    if as_json:
        print_json(told)
    else:
        print_text(render(told, gpu_gib, tflops))


@app.command()
def doctor(as_json: bool = Json) -> None:
    """Check that this machine can do the work: packages, DeepSpeed, two talking processes, disk, GPU, Slurm.

    Under srun or torchrun, the nodes are held against each other: versions, this folder, and how fast they talk.

    Example: polarcast doctor --json, or: srun -N2 polarcast doctor
    """
    from polarcast.hpc.doctor import examine, examine_nodes
    from polarcast.hpc.world import detect

    world = detect()
    findings = examine() if world.size == 1 else examine_nodes(world)
    if world.is_first:
        report_findings(findings, as_json)


def _board(quiet: bool = False) -> "Board":
    from polarcast.hpc.bench.progress import Board

    console = stderr()
    console.quiet = quiet
    return Board(console)


def _show_summary(tables: "Sequence[Summary]", about: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({**about, "tables": [table.as_record() for table in tables]})
        return
    count = about["events"]
    for table in tables:
        print_text(table.as_table(f"{about['run']} on {about['scored_on']}: {count} event{'s' * (count != 1)}"))
    print_text(f"records {about['records']}")


def _show_tables(tables: "Tables", folder: Path, as_json: bool) -> None:
    from polarcast.hpc.bench.render import terminal_table

    if as_json:
        print_json({"folder": str(folder), "tables": {name: table.as_record() for name, table in tables.items()}})
        return
    for table in tables.values():
        print_text(terminal_table(table))
    print_text(f"all tables and pictures: {folder}/report.html; also {folder}/tables and {folder}/figures")


def _report_training(folder: Path, as_json: bool) -> None:
    from polarcast.hpc.run_folder import RunFolder

    records = list(RunFolder(folder).records())
    best = min((r for r in records if r["event"] == "validation"), key=lambda r: r["loss"], default=None)
    bad = {r["shard"]: r for r in records if r["event"] == "bad_shard"}
    if as_json:
        print_json({"run": str(folder), "best": best, "bad_shards": list(bad.values())})
    else:
        at = f"; best validation loss {best['loss']:.4f} at step {best['step']}" if best else ""
        lost = f"; {len(bad)} bad shards were left out: {', '.join(bad)}" if bad else ""
        print_text(f"trained {folder}{at}{lost}\nscore it with: polarcast evaluate {folder}")


def main() -> None:
    """Entry point of the `polarcast` command."""
    run_app(app)


if __name__ == "__main__":
    main()
