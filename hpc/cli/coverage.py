"""The verb `polarcast coverage`."""

from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.hpc.cli.show import open_board
from polarcast.hpc.utils.console import Json, print_json, print_text


def coverage(
    suite: Annotated[Path, typer.Argument(help="Folder of a finished suite with many test events, such as coverage.")],
    first: Annotated[str, typer.Option(help="Reference: an arm, or MODEL:ARM.")] = "radar",
    second: Annotated[str, typer.Option(help="Arm, or MODEL:ARM, that is compared with it.")] = "dualpol",
    scores: Annotated[list[str] | None, typer.Option(help="Scores such as csi@threshold=10; repeatable.")] = None,
    events: Annotated[list[int] | None, typer.Option(help="Events (groups) of a sample; repeatable.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Runs of each arm in a sample; repeatable.")] = None,
    null: Annotated[bool, typer.Option("--null", help="Draw both arms from the runs of the second one.")] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="Intervals of the second arm's scores themselves, not of the comparison.")
    ] = False,
    trials: Annotated[int, typer.Option(min=20, max=100_000, help="Samples per row.")] = 1000,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Number of processes.")] = None,
    as_json: bool = Json,
) -> None:
    """Measure how often the confidence intervals of a suite contain the true effect.

    Samples of events and seeds are drawn from the suite's test events and runs, which stand for all storms and runs.

    Example: polarcast bench coverage && polarcast coverage runs/coverage --seeds 3 --events 60
    """
    counts = {"--events": events or [40, 60, 160], "--seeds": seeds or [1, 3]}
    for option, given in counts.items():
        least = 2 if option == "--events" else 1
        if wrong := [count for count in given if count < least]:
            raise BadInput(f"{wrong[0]} is too small", option, f"give {least} or more")
    if not (suite / SUITE_FILE).is_file():
        raise BadInput("not a suite", suite, "make one with: polarcast bench coverage")
    from polarcast.data.cores import usable_cores
    from polarcast.hpc.bench.coverage import as_row, coverage_jobs, coverage_table, run_jobs

    compared, jobs = coverage_jobs(
        suite, first, second, scores=scores or (), groups=counts["--events"], seeds=counts["--seeds"], null=null,
        alone=alone, trials=trials,
    )  # fmt: skip
    with open_board() as board, board.stage("coverage", "rows", len(jobs)) as done:
        found = run_jobs(jobs, workers or usable_cores(), done)
    if as_json:
        print_json({"suite": str(suite), "compared": compared, "rows": [as_row(row) for row in found]})
        return
    print_text(coverage_table(f"Coverage of 95% intervals: {compared}", found))
