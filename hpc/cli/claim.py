"""The verb `polarcast claim`."""

from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput, nearest, shown
from polarcast.data.splits import SPLITS
from polarcast.hpc.cli.checks import find_shards
from polarcast.hpc.utils.console import Json, print_json, print_text, split_numbers
from polarcast.hpc.utils.exit_codes import FAILED


def claim(
    forecasts: Annotated[Path, typer.Argument(help="Forecasts: .npz or NetCDF with event, frame and forecast.")],
    shards: Annotated[str, typer.Option(help="Shards to score the forecasts on.")],
    split: Annotated[str, typer.Option(help="Split whose windows are forecast.")] = "test",
    says: Annotated[
        list[str] | None, typer.Option(help="Claimed score, such as csi@threshold=35=0.42; may be repeated.")
    ] = None,
    heights: Annotated[
        str | None, typer.Option(help="Heights of a nowcast in km; all of the shards by default.")
    ] = None,
    seen_frames: Annotated[
        int | None, typer.Option(help="Input frames of a nowcast, after which its forecast begins.")
    ] = None,
    as_json: bool = Json,
) -> None:
    """Check forecasts of anybody: scores beside baselines, and the usual errors by name.

    Scores have 95% intervals, beside persistence and extrapolation, or Z–R laws for rain. Exit code 1: a sign of an
    error was found, or a claimed score disagrees.

    Example: polarcast claim theirs.npz --shards shards --seen-frames 5 --says csi@threshold=35=0.42
    """
    if not forecasts.is_file():  # before torch is imported
        raise BadInput("no such file", forecasts, "give an .npz or NetCDF file with event, frame and forecast")
    if split not in SPLITS:
        fix = f"{nearest(split, SPLITS)} choose from: {', '.join(SPLITS)}".strip()
        raise BadInput(f"unknown split {shown(split)}", "--split", fix)
    find_shards(shards)
    levels = split_numbers(heights, "--heights")
    from polarcast.hpc.leaderboard.claims.judge import judge
    from polarcast.hpc.leaderboard.claims.render import as_record, lines_of, score_table

    found = judge(forecasts, shards, split, says or (), None if levels is None else tuple(levels), seen_frames)
    if as_json:
        print_json(as_record(found))
    else:
        print_text(score_table(found))
        print_text("\n".join(lines_of(found)))
    if not found.is_clean:
        raise typer.Exit(FAILED)
