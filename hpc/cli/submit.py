"""The verb `polarcast submit`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from polarcast.hpc.cli.default_verb import with_verb
from polarcast.hpc.utils.console import Json, print_json, print_text

if TYPE_CHECKING:
    from polarcast.slurm.profile import Profile
    from polarcast.slurm.render import Job

# Typer has its own copy of click in some versions, and exports only this subclass.
_UsageError: Any = typer.BadParameter.__base__


def submit(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- VERB …", help="Verb to run: train, bench, evaluate, …")],
    cluster: Annotated[str, typer.Option(help="Built-in profile (gpu, cpu, test), or a YAML file.")] = "gpu",
    nodes: Annotated[int | None, typer.Option(help="Number of nodes of a training; the profile's by default.")] = None,
    time: Annotated[str | None, typer.Option(help="Time limit, [days-]hours:minutes:seconds.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of job and run folder: letters, digits, _ - . only; verb and preset.")
    ] = None,
    array: Annotated[
        str | None, typer.Option(help="Job array such as 0-4%2; {task} in the command is the index.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Jobs that must succeed first, such as 12:13.")] = None,
    by: Annotated[str, typer.Option(help="Submit by sbatch or submitit.")] = "sbatch",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the script and Slurm's test of it; submit nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it ends.")] = False,
    as_json: bool = Json,
) -> None:
    """Submit a verb to Slurm; --dry-run prints the batch script, also on machines without Slurm.

    Example: polarcast submit --cluster gpu --nodes 4 -- train paper data.shards=/scratch/shards arm=dualpol
    """
    from polarcast.slurm.profile import load_profile
    from polarcast.slurm.render import Job, sbatch_text
    from polarcast.slurm.rules import name_of

    default = name_of("-".join(Path(word).stem for word in command[:2] if not word.startswith("-")))
    job_name = default if name is None else name
    job = Job(tuple(command), job_name, nodes, time, array, after)
    with slurm_errors():
        if by not in ("sbatch", "submitit"):
            raise ValueError(f"--by {by!r}: unknown — choose from: sbatch, submitit")
        profile = load_profile(cluster)
        text = sbatch_text(profile, job)
        _check_verb(context, command)
        if dry_run:
            _show_script(text)
            return
        number = _submitted(profile, job, text, by)
    folder = None if job.run_folder is None or array else Path(job.run_folder)
    state = _follow(number, folder) if wait else "SUBMITTED"
    if as_json:
        print_json({"job": number, "run": folder and str(folder), "log": f"{job_name}-{number}.log", "state": state})
    else:
        where = f", run folder {folder}" if folder else ""
        print_text(f"job {number} {state.lower()}: log {job_name}-{number}.log{where}")
    if wait and state != "COMPLETED":
        raise typer.Exit(1)


def _check_verb(context: typer.Context, command: list[str]) -> None:
    """Parse the command line of the job as that job will, but run nothing. Raises ValueError if it can't be parsed."""
    from polarcast.slurm.render import TASK

    assert context.parent is not None
    verb: Any = context.parent.command
    name, words = "", list(command)
    while isinstance(verb, TyperGroup):
        words = with_verb(verb, words)
        name = f"{name} {words.pop(0) if words else ''}".strip()
        if name.split(" ")[-1] not in verb.commands:
            raise ValueError(f"{name!r}: unknown verb — choose from: {', '.join(verb.commands)}")
        verb = verb.commands[name.split(" ")[-1]]
    if name == context.info_name:
        raise ValueError(f"{name}: a job can't submit jobs — give the verb that it runs")
    try:
        given = verb.make_context(name, [word.replace(TASK, "1") for word in words], parent=context.parent).params
        _check_given(given)
    except _UsageError as error:
        raise ValueError(f"{name}: {' '.join(error.format_message().split())} — see: polarcast {name} --help") from None


def _check_given(given: Mapping[str, Any]) -> None:
    """Raise BadInput for an unknown preset, suite or space, and for overrides that are not key=value.

    YAML files are not looked for: they may exist on the cluster only.
    """
    from polarcast.hpc.utils.sources import PRESETS, SPACES, SUITES, yaml_source

    for kind, built_in in {"source": PRESETS, "suite": SUITES, "space": SPACES}.items():
        if isinstance(name := given.get(kind), str) and Path(name).suffix not in (".yaml", ".yml"):
            yaml_source(name, built_in, "preset" if built_in == PRESETS else kind)
    if given.get("overrides"):
        _check_overrides(given["overrides"])


def _check_overrides(overrides: list[str]) -> None:
    from polarcast.data.errors import BadInput, shown
    from polarcast.hpc.config.load import parse_overrides, with_current_names
    from polarcast.hpc.config.schema import RunConfig

    keys = with_current_names(parse_overrides(overrides), advise=False)
    known = [field.name for field in fields(RunConfig)]
    if unknown := [str(key) for key in keys if key not in known]:
        raise BadInput(f"unknown key {shown(unknown[0])}", "override", f"choose from: {', '.join(known)}")


@contextmanager
def slurm_errors() -> Iterator[None]:
    """Convert the built-in exceptions of slurm/, which imports no other folder, to those of the command line."""
    from polarcast.data.errors import BadInput, WorkFailed

    try:
        yield
    except ValueError as error:
        raise BadInput(str(error)) from None
    except RuntimeError as error:
        raise WorkFailed(str(error)) from None


def _submitted(profile: "Profile", job: "Job", text: str, by: str) -> str:
    from polarcast.slurm.submit import by_sbatch, by_submitit, has_slurm

    if not has_slurm():
        raise ValueError("Slurm is not available — submit from a login node, or print the script with --dry-run")
    return by_sbatch(text) if by == "sbatch" else by_submitit(profile, job, Path("submitit"))


def _show_script(text: str) -> None:
    """Print the script on standard output, and Slurm's test of it, if available, on standard error."""
    from polarcast.slurm.submit import has_slurm, tested

    typer.echo(text, nl=False)
    if has_slurm():
        typer.echo(tested(text).strip(), err=True)


def _follow(number: str, folder: Path | None) -> str:
    from polarcast.hpc.utils.console import live
    from polarcast.slurm.follow import follow

    with live() as show:
        return follow(number, folder, lambda view: show(view.line))
