"""The verb `polarcast evaluate`."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.data.errors import BadInput
from polarcast.hpc.cli.checks import Trust
from polarcast.hpc.cli.show import open_board, show_tables
from polarcast.hpc.utils.console import Json, plain, positive, print_json, print_text, split_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polarcast.hpc.evaluation.gauges.report import GaugeReport
    from polarcast.hpc.evaluation.summary import ScoreSummary
    from polarcast.hpc.runs.folder import RunFolder

_gauges = partial(typer.Option, rich_help_panel="Gauges")

_Run = Annotated[
    Path | None, typer.Argument(help="Run folder, or folder of a suite such as runs/demo; not needed with --gauges.")
]
_Archive = Annotated[Path | None, typer.Option(help="Score on all events of this archive or shards.")]
_Split = Annotated[str | None, typer.Option(help="Split of the run's own shards; test by default.")]
_Scores = Annotated[
    list[str] | None, typer.Option(help="usual, all, or scores such as csi@threshold=10,window=*; repeatable.")
]
_By = Annotated[str | None, typer.Option(help="Axis: lead_time, class (of the observation), threshold, height.")]
_Aggregation = Annotated[
    str, typer.Option(help="pooled: scores of sums over events; mean: mean of the events' scores.")
]
_Recorded = Annotated[bool, typer.Option("--recorded", help="Use the records of the last evaluation.")]
_Processes = Annotated[
    int, typer.Option(min=1, max=1024, help="Processes on this machine; torchrun and srun start their own.")
]
_Gauges = Annotated[
    list[Path] | None,
    _gauges(
        help="Score rain against gauges: tables (station,lat,lon,time,mm,minutes), CF NetCDF, or folders of them; "
        "repeatable. Laws and the archive's own rain are scored beside the run."
    ),
]
_TimeZone = Annotated[str | None, _gauges(help="Zone of times in tables, such as Europe/Stockholm or UTC.")]
_Minutes = Annotated[float | None, _gauges(help="Length of intervals, where the files do not tell it.")]
_Mark = Annotated[str, _gauges(help="end or start: which end of an interval its time is.")]
_Cumulative = Annotated[bool, _gauges("--gauge-cumulative", help="Amounts are readings of a counter.")]
_Thin = Annotated[bool, _gauges("--gauge-thin", help="Of intervals that overlap, keep the first.")]
_Accumulate = Annotated[float | None, _gauges(help="Sum gauges to intervals of this many minutes.")]
_CorrelationOption = Annotated[
    str | None, _gauges(help="Correlation of rain as km,shape,nugget; estimated from the gauges by default.")
]
_ZR = Annotated[str, _gauges(help="a and b of the law Z = a R^b.")]
_Picture = Annotated[Path | None, _gauges(help="Draw a map with the gauges, and estimates against them.")]


def evaluate(
    run: _Run = None,
    archive: _Archive = None,
    split: _Split = None,
    scores: _Scores = None,
    by: _By = None,
    aggregation: _Aggregation = "pooled",
    recorded: _Recorded = False,
    processes: _Processes = 1,
    gauges: _Gauges = None,
    gauge_time_zone: _TimeZone = None,
    gauge_minutes: _Minutes = None,
    gauge_time: _Mark = "end",
    gauge_cumulative: _Cumulative = False,
    gauge_thin: _Thin = False,
    accumulate: _Accumulate = None,
    correlation: _CorrelationOption = None,
    z_r: _ZR = "200,1.6",
    picture: _Picture = None,
    trust: Trust = False,
    as_json: bool = Json,
) -> None:
    """Score a trained run, or all runs of a suite, on their test events, on another archive, or at rain gauges.

    Example: polarcast evaluate runs/unet --scores all --by class, or: polarcast evaluate runs/demo --archive NJU-CPOL

    Example: polarcast evaluate runs/unet --archive storms --gauges gauges.csv --picture gauges.png
    """
    if gauges:
        many = processes > 1 or None
        _refuse_with_gauges(split=split, scores=scores, by=by, recorded=recorded or None, processes=many)
        reading = {"time_zone": gauge_time_zone, "minutes": gauge_minutes, "mark": gauge_time,
                   "cumulative": gauge_cumulative, "overlaps": "thin" if gauge_thin else "refuse"}  # fmt: skip
        more = {"minutes": accumulate, "correlation": correlation, "z_r": z_r}
        _at_gauges(run, archive, gauges, reading, more, picture, trust, as_json)
        return
    flags = gauge_cumulative or gauge_thin or None
    _need_gauges(gauge_time_zone, gauge_minutes, accumulate, correlation, picture, flags)
    _on_fields(run, archive, split, scores, by, aggregation, recorded, processes, trust, as_json)


def _on_fields(
    run: Path | None,
    archive: Path | None,
    split: str | None,
    scores: "Sequence[str] | None",
    by: str | None,
    aggregation: str,
    recorded: bool,
    processes: int,
    trust: bool,
    as_json: bool,
) -> None:
    """Score on the fields of shards or of an archive, and show the results."""
    from polarcast.hpc.evaluation.arguments import check_choices, check_places

    check_choices(by, aggregation)
    if run is None:
        raise BadInput("no run is given", "evaluate", "give a RUN, or --archive and --gauges")
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


def _refuse_with_gauges(**given: Any) -> None:
    """Refuse options of other scores beside gauges."""
    for name, value in given.items():
        if value:
            raise BadInput("has no meaning with --gauges", f"--{name}", "leave it out")


def _need_gauges(*given: Any) -> None:
    """Refuse options of gauges without any."""
    if any(value is not None for value in given):
        raise BadInput("options of gauges, without gauges", "evaluate", "give the gauges too: --gauges FILE")


def _at_gauges(
    run: Path | None,
    archive: Path | None,
    gauges: "Sequence[Path]",
    reading: dict[str, Any],
    more: dict[str, Any],
    picture: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Score at gauges, and show the results."""
    from polarcast.data.gauges.correlation import Correlation
    from polarcast.data.gauges.options import GaugeOptions
    from polarcast.hpc.evaluation.arguments import check_places

    if archive is None:
        raise BadInput("gauges need an archive", "--gauges", "give --archive with the radar fields of their time")
    if run is not None:
        check_places(run, archive, None)
    elif not archive.is_dir():
        raise BadInput("no such folder", archive, "give an archive")
    options = GaugeOptions(**reading)
    law = None if more["correlation"] is None else Correlation.parse(more["correlation"])
    minutes = None if more["minutes"] is None else positive(more["minutes"], "--accumulate")
    zr = _z_r_of(more["z_r"])
    if picture is not None:
        _check_picture(picture)
    # Last, because these import torch.
    from polarcast.hpc.distributed.world import detect
    from polarcast.hpc.evaluation.gauges.run import GaugeRequest, evaluate_at_gauges, output_folder

    if not detect().is_first:
        return
    out = output_folder(run, archive)
    runs = {} if run is None else _runs_of(run, trust)
    request = GaugeRequest(archive, tuple(gauges), options, out, minutes, law, zr, runs)
    with open_board() as board:
        report = evaluate_at_gauges(request, board)
    if picture is not None:
        from polarcast.hpc.evaluation.gauges.plot import draw

        draw(report, picture)
    _show_report(report, picture, as_json)


def _check_picture(picture: Path) -> None:
    """Raise BadInput if a picture can't be written there, or its name is not that of one."""
    from polarcast.data.files import checked_output

    if picture.suffix.lower() != ".png":
        raise BadInput("pictures are PNG files", picture, "give a name that ends in .png")
    checked_output(picture)


def _runs_of(run: Path, trust: bool) -> "dict[str, list[RunFolder]]":
    """Return the runs of each estimator by its label: a run, or those of a suite that differ in seed only.

    Runs of a suite that are not trained yet, and placebos, are left out.
    """
    from polarcast.data.shards.manifest import read_manifest
    from polarcast.hpc.bench.cells import SuiteFolder, cells_of
    from polarcast.hpc.bench.rescore import is_suite, saved_suite
    from polarcast.hpc.runs.folder import RunFolder

    if not is_suite(run):
        return {run.resolve().name: [RunFolder(run, trust)]}
    suite = saved_suite(run)
    folder = SuiteFolder(run, suite.data)
    manifest, found = read_manifest(folder.shards), dict[str, list[RunFolder]]()
    for cell in cells_of(suite, folder.shards):
        one = folder.cell(cell, manifest)
        if one.is_trained and not cell.config.is_placebo:
            found.setdefault(f"{suite.models[cell.model].label}, {cell.arm}", []).append(one)
    if not found:
        raise BadInput("no run of this suite is trained", run, "wait for polarcast bench to finish one")
    return found


def _z_r_of(text: str) -> tuple[float, float]:
    numbers = split_numbers(text, "--z-r") or ()
    if len(numbers) != 2:
        raise BadInput(f"no a and b: {text!r}", "--z-r", "give both of Z = a R^b, such as 200,1.6")
    return numbers[0], numbers[1]


def _show_report(report: "GaugeReport", picture: Path | None, as_json: bool) -> None:
    from polarcast.hpc.evaluation.gauges.show import summary

    if as_json:
        print_json({**report.as_record(), "folder": str(report.out), "picture": str(picture) if picture else None})
        return
    for part in summary(report):
        print_text(part)
    if picture is not None:
        print_text(f"picture {plain(picture)}")
    print_text(f"results {plain(report.out)}")


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
