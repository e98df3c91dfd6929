"""The verbs `polarcast leaderboard` and `polarcast leaderboard add`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from polarcast.hpc.console import Json, print_json, print_text


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, at any depth; or: add RUN.")],
    score: Annotated[
        str | None, typer.Option(help="Ranked by; rmse for rain, csi@threshold=35 for nowcasts by default.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with filters.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a CSV file.")] = None,
    wandb: Annotated[str | None, typer.Option(help="Project of W&B to send it to; offline unless WANDB_MODE.")] = None,
    forecasts: Annotated[Path | None, typer.Option(help="With add: .npz with event, frame and forecast.")] = None,
    shards: Annotated[str | None, typer.Option(help="With add: the shards that it was scored on.")] = None,
    as_json: bool = Json,
) -> None:
    """Rank runs that were scored on the same data; those that can't be told apart share a rank.

    Example: polarcast leaderboard runs --score csi@threshold=10 --html board.html

    A run made elsewhere: polarcast leaderboard add runs/theirs --forecasts theirs.npz --shards shards
    """
    if str(folders[0]) == "add" and len(folders) == 2:
        _add(folders[1], forecasts, shards, as_json)
        return
    from polarcast.hpc.board.entry import find_entries
    from polarcast.hpc.board.page import as_csv, as_page, terminal_table
    from polarcast.hpc.board.ranking import make_boards
    from polarcast.hpc.files import write_text
    from polarcast.hpc.scores.score import parse_score

    boards = make_boards(find_entries(folders), parse_score(score) if score else None)
    for path, content in ((html, as_page), (csv, as_csv)):
        if path:
            write_text(path, content(boards))
    if wandb:
        from polarcast.hpc.board.publish import publish

        publish(boards, wandb, Path("runs") / "leaderboard")
    if as_json:
        print_json({"boards": [board.as_record() for board in boards]})
        return
    for board in boards:
        print_text(terminal_table(board))


def _add(folder: Path, forecasts: Path | None, shards: str | None, as_json: bool) -> None:
    from polarcast.hpc.board.added import add

    told: dict[str, Any] = add(folder, forecasts, shards)
    if as_json:
        print_json({"run": str(folder), **told})
    else:
        print_text(f"{folder}: verified" if told["verified"] else f"{folder}: unverified, {told['reason']}")
