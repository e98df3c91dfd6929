"""The verbs `polarcast leaderboard` and `polarcast leaderboard add`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, write_text
from polarcast.data.folder_kind import RUN_FILE, is_new
from polarcast.hpc.cli.checks import check_folders, checked_run
from polarcast.hpc.cli.default_verb import DefaultVerb
from polarcast.hpc.utils.console import Json, plain, print_json, print_text, split_numbers
from polarcast.hpc.utils.exit_codes import FAILED

_SENT = Path("runs") / "leaderboard"
"""Folder of what is sent to W&B."""


class _RankByDefault(DefaultVerb):
    default = "rank"


app = typer.Typer(cls=_RankByDefault, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Rank runs that were scored on the same data, or add forecasts or runs made elsewhere.

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

    wanted = parse_score(score) if score else None
    boards = make_boards(find_entries(folders), wanted)
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
    run: Annotated[Path, typer.Argument(help="Folder of a run made elsewhere; or a new one, to make a run.")],
    forecasts: Annotated[
        Path | None, typer.Option(help="Forecasts of all test windows: .npz with event, frame and forecast.")
    ] = None,
    shards: Annotated[str | None, typer.Option(help="Shards to score the forecasts on.")] = None,
    arm: Annotated[str | None, typer.Option(help="New run: what the model read, radar (default) or dualpol.")] = None,
    label: Annotated[str | None, typer.Option(help="New run: what the model is called.")] = None,
    heights: Annotated[
        str | None, typer.Option(help="New run: heights of a nowcast in km; all of the shards by default.")
    ] = None,
    seen_frames: Annotated[
        int | None, typer.Option(help="New run: input frames of a nowcast, after which its forecast begins.")
    ] = None,
    as_json: bool = Json,
) -> None:
    """Make a run of forecasts of other software, or verify the scores of a run made elsewhere.

    A new folder gets the scores of the forecasts. Those of an existing run are compared with them. Runs that were made
    on this machine need no verification.

    Example: polarcast leaderboard add runs/mine --forecasts mine.npz --shards shards --label "our CNN"

    Example: polarcast leaderboard add runs/theirs --forecasts theirs.npz --shards shards
    """
    if (forecasts is None) != (shards is None):
        missing = "--shards" if shards is None else "--forecasts"
        raise BadInput("forecasts are scored on shards", missing, "give both, or neither")
    of_new = {"--arm": arm, "--label": label, "--heights": heights, "--seen-frames": seen_frames}
    if forecasts is not None and shards is not None and is_new(run):
        levels = split_numbers(heights, "--heights")
        _make(run, forecasts, shards, as_json, arm, label, levels, seen_frames)
        return
    if forecasts is not None and os.path.lexists(run) and not (run / RUN_FILE).exists():
        raise BadInput("exists and is not empty", run, "choose another folder")
    checked_run(run)
    if option := next((name for name, value in of_new.items() if value is not None), None):
        raise BadInput("describes a new run, and this one exists", option, "remove it, or give a new folder")
    from polarcast.hpc.leaderboard.verify import add as verify
    from polarcast.hpc.utils.text import printable

    result: dict[str, Any] = verify(run, forecasts, shards)
    if as_json:
        print_json({"run": printable(run), **result})
    else:
        standing = "verified" if result["verified"] else f"unverified, {result['reason']}"
        print_text(plain(f"{printable(run)}: {standing}"))
    if forecasts is not None and not result["verified"]:
        raise typer.Exit(FAILED)


def _make(
    folder: Path,
    forecasts: Path,
    shards: str,
    as_json: bool,
    arm: str | None,
    label: str | None,
    heights: list[float] | None,
    seen_frames: int | None,
) -> None:
    """Make a run of forecasts of other software, and report it."""
    if not forecasts.is_file():  # before torch is imported
        raise BadInput("no such file", forecasts, "give an .npz file with event, frame and forecast")
    checked_output(folder, is_folder=True)
    from polarcast.hpc.leaderboard.external import ExternalModel, add_external
    from polarcast.hpc.utils.text import printable

    levels = None if heights is None else tuple(heights)
    made = add_external(folder, forecasts, shards, ExternalModel(arm or "radar", label, levels, seen_frames))
    if as_json:
        print_json({"run": printable(folder), **made})
    else:
        scored = f"{made['events']} event{'s' * (made['events'] != 1)} scored, {made['task']}, {made['arm']}"
        if "lead_minutes" in made:
            leads = made["lead_minutes"]
            scored += f", {made['seen_frames']} input frames, then {leads[0]:g} to {leads[-1]:g} min"
        print_text(plain(f"{printable(folder)}: verified, {scored}"))
