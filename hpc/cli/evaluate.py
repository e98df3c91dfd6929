"""The verb `polarcast evaluate`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.hpc.cli.checks import Trust
from polarcast.hpc.cli.show import open_board, show_tables
from polarcast.hpc.utils.console import Json, plain, print_json, print_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polarcast.hpc.evaluation.summary import ScoreSummary


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of a suite such as runs/demo.")],
    archive: Annotated[Path | None, typer.Option(help="Score on all events of this archive or shards.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the run's own shards; test by default.")] = None,
    scores: Annotated[
        list[str] | None, typer.Option(help="usual, all, or scores such as csi@threshold=10,window=*; repeatable.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Axis: lead_time, class (of the observation), threshold, height.")
    ] = None,
    aggregation: Annotated[
        str, typer.Option(help="pooled: scores of sums over events; mean: mean of the events' scores.")
    ] = "pooled",
    recorded: Annotated[bool, typer.Option("--recorded", help="Use the records of the last evaluation.")] = False,
    processes: Annotated[
        int, typer.Option(min=1, max=1024, help="Processes on this machine; torchrun and srun start their own.")
    ] = 1,
    trust: Trust = False,
    as_json: bool = Json,
) -> None:
    """Score a trained run, or all runs of a suite, on their test events or on another archive.

    Example: polarcast evaluate runs/unet --scores all --by class, or: polarcast evaluate runs/demo --archive NJU-CPOL
    """
    from polarcast.hpc.evaluation.arguments import check_choices, check_places

    check_choices(by, aggregation)
    check_places(run, archive, split)
    # Last, because it imports torch.
    from polarcast.hpc.evaluation.summary import check_wanted

    check_wanted(scores or (), by, aggregation)
    from polarcast.hpc.bench.rescore import is_suite, rescore
    from polarcast.hpc.distributed.launch import end_with_launcher, launch_local
    from polarcast.hpc.distributed.world import detect
    from polarcast.hpc.evaluation.run import Wanted, evaluate_run

    end_with_launcher()
    if processes > 1 and "RANK" not in os.environ and not is_suite(run):
        given = [("--archive", archive), ("--split", split), ("--by", by), ("--aggregation", aggregation)]
        options = [text for name, value in given if value is not None for text in (name, str(value))]
        options += [text for score in scores or () for text in ("--scores", score)]
        flags = ["--recorded"] * recorded + ["--trust"] * trust + ["--json"] * as_json
        launch_local(["evaluate", str(run), *options, *flags], processes)
        return
    world = detect()
    with open_board(quiet=not world.is_first) as board:
        if not is_suite(run):
            wanted = Wanted(tuple(scores or ["usual"]), by, aggregation, recorded, trust)
            found, about = evaluate_run(run, archive, split, board, world, wanted)
            if world.is_first:
                _show_summary(found, about, as_json)
            return
        assert archive is not None, "see check_places"
        tables, folder = rescore(run, archive, board)
    show_tables(tables, folder, as_json)


def _show_summary(tables: "Sequence[ScoreSummary]", about: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({**about, "tables": [table.as_record() for table in tables]})
        return
    count = about["events"]
    for table in tables:
        title = f"{plain(about['run'])} on {plain(about['scored_on'])}: {count} event{'s' * (count != 1)}"
        print_text(table.as_table(title))
    for line in _coverage(about):
        print_text(line)
    print_text(f"records {plain(about['records'])}")


def _coverage(about: dict[str, Any]) -> list[str]:
    """Say which pixels count in no score; nothing if all count, or if the records do not tell."""
    observed, scored = about.get("observed_share", 1), about.get("scored_share", 1)
    lines = []
    if observed != 1:
        lines.append(f"{100 * (observed or 0):.1f}% of the pixels are observed; the others count in no score")
    if scored is not None and scored < 1:
        lines.append(f"NaN: {100 * (1 - scored):.3g}% of the observed pixels have no forecast and count in no score")
    return lines
