"""Publish a leaderboard to W&B: one table per board, and an artifact with the page and all numbers."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polarcast.data.errors import WorkFailed
from polarcast.data.files import write_text
from polarcast.hpc.leaderboard.page import as_page
from polarcast.hpc.leaderboard.ranking import Board
from polarcast.hpc.tracking.sinks import finish, private_settings

ARTIFACT = "leaderboard"


def publish(boards: Sequence[Board], project: str, folder: Path) -> None:
    """Send boards to a W&B project, offline unless WANDB_MODE is set.

    The artifact's aliases are `latest` and the UTC date.

    Args:
        boards: Boards to send.
        project: Name of the W&B project.
        folder: Folder for the page, the numbers and the files of an offline run.

    Raises:
        WorkFailed: W&B is unreachable or rejects the run.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "board.html", as_page(boards))
    write_text(folder / "board.json", json.dumps([board.as_record() for board in boards], indent=1) + "\n")
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb"))
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    try:
        run = wandb.init(
            project=project, job_type=ARTIFACT, mode=mode, dir=str(folder), settings=private_settings(),
            reinit="create_new",  # not the run that the caller may have
        )  # fmt: skip
        run.log({f"{board.title}: {board.score}": _table(board) for board in boards if board.places})
        artifact = wandb.Artifact(ARTIFACT, type=ARTIFACT)
        for name in ("board.html", "board.json"):
            artifact.add_file(str(folder / name))
        run.log_artifact(artifact, aliases=["latest", datetime.now(UTC).strftime("%Y-%m-%d")])
        finish(run)
    except (wandb.Error, OSError) as error:
        raise WorkFailed(f"wandb: {str(error).splitlines()[0]}; the board was written to {folder}") from None


def _table(board: Board) -> Any:
    import wandb

    rows = [place.as_row() for place in board.places]
    return wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
