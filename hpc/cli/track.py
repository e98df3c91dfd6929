"""The verbs `polarcast track replay`, `track suite` and `track template`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.files import checked_output, write_text
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.hpc.cli.checks import check_folders
from polarcast.hpc.utils.console import Json, print_json, print_text

app = typer.Typer(help="Mirror runs in W&B or TensorBoard.", no_args_is_help=True)


@app.command()
def replay(
    runs: Annotated[list[Path], typer.Argument(help="Folders that contain runs, at any depth.")],
    to: Annotated[str, typer.Option(help="wandb or tensorboard.")] = "wandb",
    project: Annotated[str, typer.Option(help="W&B project.")] = "polarcast",
    mode: Annotated[str, typer.Option(help="online or offline; WANDB_MODE by default, or offline.")] = "",
    as_json: bool = Json,
) -> None:
    """Send recorded runs to a tracker, from a node with network access; skip records already sent.

    Example: polarcast track replay runs/demo --project radar --mode online
    """
    check_folders(runs)
    from polarcast.hpc.runs.folder import RunFolder
    from polarcast.hpc.tracking.mirror import open_mirror, runs_in

    sent, lost = {}, ""
    for path in runs_in(runs):
        mirror = open_mirror(RunFolder(path), to, mode, project)
        sent[str(path)] = mirror.update()
        mirror.finish()
        lost = lost or mirror.lost
    if as_json:
        print_json({"sent": sent})
    else:
        for run, count in sent.items():
            print_text(f"{run}: {count} records sent" if count else f"{run}: nothing new")
    if lost:
        raise WorkFailed(f"{to}: {lost}")


@app.command()
def suite(
    folder: Annotated[Path, typer.Argument(help="Folder of a suite.")],
    project: Annotated[str, typer.Option(help="W&B project.")] = "polarcast",
    mode: Annotated[str, typer.Option(help="online or offline; WANDB_MODE by default, or offline.")] = "",
    bundle: Annotated[Path | None, typer.Option(help="A further file to send, such as a zip of the suite.")] = None,
    as_json: bool = Json,
) -> None:
    """Send the report, tables and figures of a suite to W&B, as artifacts in the group of its runs.

    Files that were sent before, and did not change since, are not sent again.

    Example: polarcast track suite runs/demo --project radar --mode online
    """
    check_folders([folder])
    if not (folder / SUITE_FILE).is_file():
        raise BadInput(f"not a suite: it has no {SUITE_FILE}", folder, "give the folder of a suite, such as runs/demo")
    from polarcast.hpc.tracking.suite import log_suite

    sent = log_suite(folder, project, mode, bundle)
    if as_json:
        print_json({"suite": str(folder), "sent": sent})
    else:
        print_text(f"{folder}: {', '.join(sent)} sent" if sent else f"{folder}: nothing new")


@app.command()
def template(
    folder: Annotated[Path | None, typer.Argument(help="Folder of a suite; its name is the group.")] = None,
    project: Annotated[str, typer.Option(help="W&B project.")] = "polarcast",
    entity: Annotated[str, typer.Option(help="W&B user or team; the default one if it is not given.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the program to this file; one that exists is kept.")] = None,
) -> None:
    """Print a Python program that makes a W&B Report of a suite; edit and run it where wandb-workspaces is installed.

    Example: polarcast track template runs/demo --project radar --out report.py
    """
    if folder is not None:
        check_folders([folder])
    if out and os.path.lexists(out):
        raise BadInput("exists, and you may have edited it", out, "choose another name")
    from polarcast.hpc.tracking.template import report_program

    program = report_program(folder.resolve().name if folder else "demo", project, entity)
    if out:
        write_text(checked_output(out), program + "\n")
    else:
        print_text(program)
