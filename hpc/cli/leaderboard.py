"""The verbs `polarcast leaderboard` and `polarcast leaderboard add`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polarcast.data.errors import BadInput
from polarcast.hpc.utils.console import Json, print_json, print_text


class _RankByDefault(TyperGroup):
    """Read `leaderboard FOLDER…` as `leaderboard rank FOLDER…`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["rank", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_RankByDefault, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Rank runs that were scored on the same data, or add a run made elsewhere.

    `leaderboard FOLDER…` is short for `leaderboard rank FOLDER…`, whose options `leaderboard rank --help` shows.

    Example: polarcast leaderboard runs --score csi@threshold=10 --html board.html
    """


@app.command()
def rank(
    folders: Annotated[list[Path], typer.Argument(help="Folders that contain runs, at any depth.")],
    score: Annotated[
        str | None, typer.Option(help="Score to rank by; default: rmse for rain, csi@threshold=35 for nowcasts.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write an HTML page with filters.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a CSV file.")] = None,
    wandb: Annotated[str | None, typer.Option(help="W&B project to log to; offline unless WANDB_MODE is set.")] = None,
    as_json: bool = Json,
) -> None:
    """Rank runs that were scored on the same data; runs without a significant difference share a rank.

    Example: polarcast leaderboard runs --score csi@threshold=10 --html board.html
    """
    from polarcast.data.files import write_text
    from polarcast.hpc.leaderboard.entry import find_entries
    from polarcast.hpc.leaderboard.page import as_csv, as_page, terminal_table
    from polarcast.hpc.leaderboard.ranking import make_boards
    from polarcast.hpc.scores.query import parse_score

    boards = make_boards(find_entries(folders), parse_score(score) if score else None)
    for path, content in ((html, as_page), (csv, as_csv)):
        if path:
            write_text(path, content(boards))
    if wandb:
        from polarcast.hpc.leaderboard.publish import publish

        publish(boards, wandb, Path("runs") / "leaderboard")
    if as_json:
        print_json({"boards": [board.as_record() for board in boards]})
        return
    for board in boards:
        print_text(terminal_table(board))


@app.command()
def add(
    run: Annotated[Path, typer.Argument(help="Folder of a run made elsewhere.")],
    forecasts: Annotated[
        Path | None, typer.Option(help="Forecasts of the run: .npz with event, frame and forecast.")
    ] = None,
    shards: Annotated[str | None, typer.Option(help="Shards that it was scored on.")] = None,
    as_json: bool = Json,
) -> None:
    """Verify the scores of a run made elsewhere, and add it to the leaderboard.

    Example: polarcast leaderboard add runs/theirs --forecasts theirs.npz --shards shards
    """
    from polarcast.hpc.leaderboard.verify import add as verify

    if (forecasts is None) != (shards is None):
        missing = "--shards" if shards is None else "--forecasts"
        raise BadInput(
            "forecasts are verified on the shards that they were scored on", missing, "give both, or neither"
        )

    result: dict[str, Any] = verify(run, forecasts, shards)
    if as_json:
        print_json({"run": str(run), **result})
    else:
        print_text(f"{run}: verified" if result["verified"] else f"{run}: unverified, {result['reason']}")
