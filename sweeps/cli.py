"""The verb `polarcast sweep`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.data.folder_kind import SWEEP_FILE, checked_kind
from polarcast.data.names import checked_name
from polarcast.hpc.utils.console import Json, plain, print_json, print_text, progress, stderr
from polarcast.hpc.utils.sources import SPACES, yaml_source

if TYPE_CHECKING:
    from polarcast.sweeps.result import Result
    from polarcast.sweeps.space import Space


def sweep(
    space: Annotated[str, typer.Argument(help="Name of a bundled space (tiny, furenet, …), or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Overrides for every run.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; default: runs/sweep-<space>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the sweep in the folder.")] = False,
    paired: Annotated[bool, typer.Option("--paired", help="Train every point on both arms, in parallel.")] = False,
    trials: Annotated[int | None, typer.Option(help="Number of points to try; overrides the space.")] = None,
    worker: Annotated[
        bool,
        typer.Option("--worker", help="Run as one of several independent workers, as in a job array; without Ray."),
    ] = False,
    at_once: Annotated[int, typer.Option(help="Trials to run in parallel; 0: as many as CPUs or GPUs allow.")] = 0,
    results_only: Annotated[
        bool, typer.Option("--results-only", help="Only write the table and figures of the existing trials.")
    ] = False,
    as_json: bool = Json,
) -> None:
    """Search a space of configurations by validation score; every trial is an ordinary run.

    Example: polarcast sweep tiny --out runs/tiny; to resume: polarcast sweep tiny --out runs/tiny --resume

    On Slurm, in one allocation: polarcast submit --nodes 2 -- sweep furenet; as independent workers: polarcast submit
    --array 0-7 -- sweep furenet --worker
    """
    if trials is not None and trials < 1:
        raise BadInput(f"{trials} is too small", "--trials", "give 1 or more")
    if at_once < 0:
        raise BadInput(f"{at_once} is negative", "--at-once", "give a number of trials, or 0 for as many as possible")
    source = yaml_source(space, SPACES, "space")
    folder = checked_output(out or Path("runs") / f"sweep-{checked_name(source.stem, source)}", is_folder=True)
    checked_kind(folder, "a sweep")
    if results_only and not (folder / SWEEP_FILE).is_file():
        raise BadInput("holds no sweep", folder, "run it without --results-only")
    from polarcast.sweeps.result import result_of, write_result
    from polarcast.sweeps.space import load_space

    spec = load_space(space, overrides or [], paired, trials)
    if not results_only:
        _run(folder, spec, resume, worker, at_once)
    result = result_of(folder, spec)
    write_result(folder, result)
    command = ["polarcast", "sweep", space, *(overrides or []), "--out", str(folder), *["--paired"] * paired]
    _show(folder, result, [*command, *(["--trials", str(trials)] if trials else [])], as_json)


def _run(folder: Path, space: "Space", resume: bool, worker: bool, at_once: int) -> None:
    from polarcast.sweeps.drive import begin
    from polarcast.sweeps.space import check_on_data
    from polarcast.sweeps.study import running

    if worker and space.is_population:
        fix = "remove --worker: Ray runs the population, also across the nodes of a job"
        raise BadInput("independent workers can't train a population", space.name, fix)
    was_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    if resume and not (worker or was_requeued or (folder / SWEEP_FILE).is_file()):
        raise BadInput("holds no sweep to continue", folder, "remove --resume, or correct --out")
    check_on_data(space, folder)
    with running(folder, worker):
        space = begin(folder, space, resume or worker or was_requeued, stderr())
        _try_points(folder, space, worker, at_once)


def _try_points(folder: Path, space: "Space", worker: bool, at_once: int) -> None:
    from polarcast.sweeps.drive import Interrupts
    from polarcast.sweeps.record import REPLACED, RUNNING, ranked, read_trials
    from polarcast.sweeps.study import points_of

    with progress("sweep", points_of(space)) as show, Interrupts():

        def show_progress() -> None:
            trials = read_trials(folder)
            best = next(iter(ranked(trials, space.smaller_is_better)), None)
            show(
                sum(trial.state not in (RUNNING, REPLACED) for trial in trials),
                points_of(space),
                f"best {best.value:.4g}" if best and best.value is not None else "",
            )

        if worker:
            from polarcast.sweeps.worker import work

            work(folder, space, show_progress)
        else:
            from polarcast.sweeps.tune import run

            run(folder, space, at_once, show_progress)


def _show(folder: Path, result: "Result", command: list[str], as_json: bool) -> None:
    from polarcast.sweeps.page import write_page
    from polarcast.sweeps.render import figures, paired_line, table

    if as_json:
        print_json({"folder": str(folder), **result.as_record()})
        figures(folder, result)
        write_page(folder, result, command)
        return
    print_text(table(result))
    spent, saved = result.hours
    print_text(f"{spent:.3g} process-hours used, {saved:.3g} saved by early stopping")
    if line := paired_line(result):
        print_text(line)
    figures(folder, result)
    page = write_page(folder, result, command)
    if result.best:
        print_text(f"train the best configuration with: polarcast train {plain(folder / 'best.yaml')}")
    print_text(
        f"report: {plain(page)}; all trials: {plain(folder / 'trials.csv')}; figures: {plain(folder / 'figures')}"
    )
