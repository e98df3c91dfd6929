"""The verb `polarcast track replay`."""

from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import WorkFailed
from polarcast.hpc.cli.checks import check_folders
from polarcast.hpc.utils.console import Json, print_json, print_text

app = typer.Typer(help="Mirror runs in W&B or TensorBoard.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `replay` as a subcommand."""


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
