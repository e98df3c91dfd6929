"""Checks of what a command line names, before anything heavy is imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput

Trust = Annotated[
    bool, typer.Option("--trust", help="Read the run's shards through a command or URL, and stage them, as it says.")
]


def check_folders(folders: Sequence[Path]) -> None:
    """Raise BadInput if one of the folders of runs is missing."""
    for folder in folders:
        if not folder.is_dir():
            raise BadInput("no such folder", folder, "give folders of runs, such as runs/")


def checked_run(run: Path) -> Path:
    """Return a run folder. Raises BadInput if it is missing or not a run."""
    if not run.is_dir():
        raise BadInput("no such folder", run, "give the folder of a run")
    if not (run / "config.yaml").is_file():
        raise BadInput("not a run: it has no config.yaml", run, "start a run with: polarcast train PRESET")
    return run
