"""The verbs `polarcast leaderboard` and `polarcast leaderboard add`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, write_text
from polarcast.hpc.cli.checks import check_folders, checked_run
from polarcast.hpc.utils.console import Json, plain, print_json, print_text

_SENT = Path("runs") / "leaderboard"
"""Folder of what is sent to W&B."""


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
    """Rank runs that were scored on the same data; = marks runs that tie with the first.

    Example: polarcast leaderboard runs --score csi@threshold=10 --html board.html
    """
    check_folders(folders)
    if html and csv and html.absolute() == csv.absolute():
        raise BadInput("is given for both the page and the CSV file", html, "give two files")
    for output in filter(None, (html, csv)):
        checked_output(output)
    if wandb:
        checked_output(_SENT, is_folder=True)
    from polarcast.hpc.leaderboard.entry import find_entries
    from polarcast.hpc.leaderboard.page import as_csv, as_page, terminal_table
    from polarcast.hpc.leaderboard.ranking import make_boards
    from polarcast.hpc.scores.query import parse_score

    boards = make_boards(find_entries(folders), parse_score(score) if score else None)
    for path, content in ((html, as_page), (csv, as_csv)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, content(boards))
    if wandb:
        from polarcast.hpc.leaderboard.publish import publish

        publish(boards, wandb, _SENT)
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
    """Verify the scores of a run made elsewhere, and add it to the leaderboard; runs made here need no verification.

    Example: polarcast leaderboard add runs/theirs --forecasts theirs.npz --shards shards
    """
    if (forecasts is None) != (shards is None):
        missing = "--shards" if shards is None else "--forecasts"
        raise BadInput(
            "forecasts are verified on the shards that they were scored on", missing, "give both, or neither"
        )
    checked_run(run)
    from polarcast.hpc.leaderboard.verify import add as verify
    from polarcast.hpc.utils.text import printable

    result: dict[str, Any] = verify(run, forecasts, shards)
    if as_json:
        print_json({"run": printable(run), **result})
    else:
        standing = "verified" if result["verified"] else f"unverified, {result['reason']}"
        print_text(plain(f"{printable(run)}: {standing}"))
