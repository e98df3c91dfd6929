"""The verbs of `polarcast data`."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.data.folder_kind import checked_kind
from polarcast.hpc.cli.drops import drops
from polarcast.hpc.cli.fetch import fetch
from polarcast.hpc.cli.frame_quality import quality
from polarcast.hpc.cli.ingest import Workers, ingest, processes_of
from polarcast.hpc.utils.console import (
    Json,
    positive,
    print_json,
    print_text,
    progress,
    report_findings,
    split_names,
    split_numbers,
)

if TYPE_CHECKING:
    from rich.table import Table

    from polarcast.data.explore.explore import Exploration
    from polarcast.data.explore.measures import AcceptanceRow
    from polarcast.data.shards.manifest import Manifest
    from polarcast.data.synth.side_by_side import Beside, SideBySide

_Value = TypeVar("_Value", str, float)
_TOO_FEW_GROUPS = (
    "fewer than three groups of events can't be split: all events are test events; give groups by a table, --groups "
    "TABLE, or ingest a longer record; if one event lasts for days, ingest it again into a new archive"
)

app = typer.Typer(help="Make, ingest, shard and check archives.", no_args_is_help=True)
app.command()(fetch)
app.command()(ingest)
app.command()(quality)
app.command()(drops)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder of the archive to write or to complete.")],
    events: Annotated[int, typer.Option(min=1, max=100_000, help="Number of events.")] = 120,
    size: Annotated[int, typer.Option(min=32, max=4096, help="Pixels per side, of 1 km.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same bytes.")] = 0,
    preset: Annotated[str, typer.Option(help="meiyu, continental, njucpol, varied, any-radar or tiny.")] = "meiyu",
    frames: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Frames per event; by default drawn from the lengths of real events."),
    ] = None,
    rain: Annotated[str, typer.Option(help="Rain grid: true_R, or kdp_rain as in the real archive.")] = "true_R",
    workers: Workers = None,
    as_json: bool = Json,
) -> None:
    """Generate synthetic dual-pol storms in the layout of NJU-CPOL; resume after an interruption.

    Example: polarcast data synth archive --events 240 --size 64 --preset tiny --frames 10
    """
    checked_kind(checked_output(out, is_folder=True), "an archive")
    from polarcast.data.synth.generate import write_archive

    with progress("storms", events) as done:
        write_archive(
            out, events, size=size, seed=seed, preset=preset, frames=frames, rain=rain,
            workers=processes_of(workers), on_event=done,
        )  # fmt: skip
    if as_json:
        print_json({"archive": str(out), "events": events})
    else:
        print_text(f"{events} events in {out}\nnext: polarcast data shard {out} shards")


@app.command()
def shard(
    archive: Annotated[Path, typer.Argument(help="Folder in the layout of NJU-CPOL.")],
    out: Annotated[Path, typer.Argument(help="New folder for the shards.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="Split rule: shares such as 0.7/0.1/0.2 (default), paper, all-test, or leave-one-out/1: tests group 1."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Events that may show one storm, kept in one split: source-day (default), day, event, "
            "or a CSV table with the columns event,group."
        ),
    ] = None,
    shard_mb: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Size of a shard in MB; events are not divided.")
    ] = 64,
    variables: Annotated[str | None, typer.Option(help="Variables such as zh,zdr; all by default.")] = None,
    heights: Annotated[
        str | None, typer.Option(help="Heights in km such as 1,3; by default those of all variables.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Leave out frames with a field that is zero everywhere.")
    ] = False,
    workers: Workers = None,
    min_strong_pixels: Annotated[
        int,
        typer.Option(
            min=0, help="Keep only windows with a target frame of at least N pixels ≥ 35 dBZ at 3 km, usually 256."
        ),
    ] = 0,
    as_json: bool = Json,
) -> None:
    """Pack an archive into WebDataset shards with a manifest and splits of whole groups of events.

    Events of one radar or product on one UTC day, or less than 6 hours apart, are one group of at most 2 days. Events
    without times, as in NJU-CPOL, are groups of their own.

    Example: polarcast data shard /data/NJU-CPOL shards --split paper --clean --min-strong-pixels 256

    Example: polarcast data shard ingested shards --groups storms.csv
    """
    _check_new(out)
    from polarcast.data.archive import open_archive
    from polarcast.data.selection import Selection
    from polarcast.data.shards.write import write_shards

    found = open_archive(archive).select(split_names(variables), split_numbers(heights, "--heights"))
    chosen = Selection(clean, min_strong_pixels)
    with progress("events", len(found.frames)) as done:
        manifest = write_shards(
            found, out, split=split, seed=seed, shard_mb=shard_mb, selection=chosen, group_by=groups,
            workers=processes_of(workers), on_event=done,
        )  # fmt: skip
    sizes = {name: len(events) for name, events in manifest.splits.items()}
    frames = len(manifest.samples)
    removed = sum(map(len, manifest.selection["removed_frames"].values()))
    if as_json:
        record = {"shards": str(out), "frames": frames, "removed_frames": removed, "events": sizes}
        print_json({**record, "groups": _group_counts(manifest), "digest": manifest.digest()})
    else:
        gone = f" ({removed} left out)" if removed else ""
        counted = f"{frames} frames{gone} in {len(manifest.shards)} shards below {out}; {_split_counts(manifest)}"
        few = split is None and manifest.groups and not manifest.splits["train"]
        print_text(f"{counted}\n{_TOO_FEW_GROUPS}" if few else counted)


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(help="Folder of WebDataset tars written by other software.")],
    variables: Annotated[str, typer.Option(help="Variables along the first axis of radar.npy.")] = "zh,zdr,kdp",
    heights: Annotated[str, typer.Option(help="Heights along the second axis, in km.")] = "1,3,7",
    step_minutes: Annotated[float, typer.Option(help="Minutes between frames.")] = 6.0,
    spacing_km: Annotated[float, typer.Option(help="Distance between pixels in km.")] = 1.0,
    split: Annotated[str | None, typer.Option(help="Split rule, as in `data shard`.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    groups: Annotated[
        Path | None, typer.Option(help="CSV table event,group; by default every event is its own group.")
    ] = None,
    as_json: bool = Json,
) -> None:
    """Write a manifest for stock WebDataset tars with samples KEY.radar.npy, KEY.rain.npy, KEY.json in float16.

    Example: polarcast data index /data/their-shards --variables zh,zdr --heights 3 --split 0.7/0.1/0.2
    """
    positive(spacing_km, "--spacing-km")
    positive(step_minutes, "--step-minutes")
    names, levels = _distinct(split_names(variables), "--variables"), split_numbers(heights, "--heights")
    levels = [positive(level, "--heights") for level in _distinct(levels, "--heights")]
    if not folder.is_dir():
        raise BadInput("no such folder", folder, "give the folder that contains the WebDataset shards")
    from polarcast.data.archive import VARIABLES
    from polarcast.data.shards.adopt import ShardLayout, adopt
    from polarcast.data.shards.manifest import NAME

    if unknown := [name for name in names if name not in VARIABLES]:
        raise BadInput(f"unknown variable {unknown[0]!r}", "--variables", f"choose from: {', '.join(VARIABLES)}")
    checked_output(folder / NAME)
    grid = ShardLayout(tuple(names), tuple(levels), spacing_km, step_minutes)
    with progress("tars", len(list(folder.glob("*.tar")))) as done:
        manifest = adopt(folder, grid, split=split, seed=seed, group_by=groups, on_shard=done)
    sizes = {name: len(events) for name, events in manifest.splits.items()}
    if as_json:
        record = {"shards": str(folder), "frames": len(manifest.samples), "events": sizes}
        print_json({**record, "groups": _group_counts(manifest)})
    else:
        frames, counts = len(manifest.samples), _split_counts(manifest)
        print_text(f"{frames} frames in {len(manifest.shards)} tars of {folder}; {counts}")


@app.command()
def explore(
    archive: Annotated[Path, typer.Argument(help="Folder in the layout of NJU-CPOL, real or synthetic.")],
    out: Annotated[Path, typer.Argument(help="Folder for report.json and the figures.")],
    events: Annotated[
        int | None, typer.Option(min=1, help="Number of events to read, evenly spaced; all by default.")
    ] = None,
    beside: Annotated[str | None, typer.Option(help="Preset of synthetic storms to compare it with.")] = None,
    beside_events: Annotated[
        int | None,
        typer.Option(min=5, max=1000, help="Number of synthetic events: 8 by default, 16 for presets that vary."),
    ] = None,
    workers: Workers = None,
    as_json: bool = Json,
) -> None:
    """Test the statistics of an archive and its rain grid; draw figures 5.1, 5.2, 7.1 and 7.2 of the source paper.

    What needs a variable, a height or rain that the archive lacks is left out and named. With --beside, the archive is
    compared with synthetic storms, at most 24 of its events by default; rows that are off are named at the end.

    Example: polarcast data explore /data/NJU-CPOL explored --events 20 --beside njucpol
    """
    checked_output(out, is_folder=True)
    from polarcast.data.archive import open_archive
    from polarcast.data.explore.content import check_frames
    from polarcast.data.explore.explore import add_comparison
    from polarcast.data.explore.explore import explore as explore_archive
    from polarcast.data.synth.generate import archive_truth, find_preset
    from polarcast.data.synth.side_by_side import MOST_EVENTS, beside_preset, usual_events

    found = open_archive(archive)
    check_frames(found)
    if beside:
        find_preset(beside)
    with progress("events", min(events or len(found.frames), len(found.frames))) as done:
        result = explore_archive(
            found, out, truth=archive_truth(archive), events=events, workers=processes_of(workers), on_event=done
        )  # fmt: skip
    compared = None
    if beside:
        made, read = beside_events or usual_events(beside), min(events or MOST_EVENTS, len(found.frames))
        with progress(f"events beside {beside}", read + made) as done:
            compared = beside_preset(
                found, beside, out, events=events, synthetic_events=made, workers=processes_of(workers),
                on_event=done,
            )  # fmt: skip
        add_comparison(out, result, compared.as_record())
    if as_json:
        record = {"archive": str(archive), "out": str(out), **result.as_record()}
        print_json({**record, **({"beside": compared.as_record()} if compared else {})})
        return

    print_text(_acceptance_table(result))
    if compared:
        print_text(_beside_table(compared))
    for line in [*result.left_out, *(compared.left_out if compared else ())]:
        print_text(f"left out or different: {line}")
    if compared:
        _print_off(compared)
    print_text(f"{result.verdict}\nfigures and report.json in {out}")


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Archive, or folder of shards.")],
    workers: Workers = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="For shards: check sizes, offsets, splits and leaks only.")
    ] = False,
    as_json: bool = Json,
) -> None:
    """Check that an archive or shards are complete and plausible; exit with code 1 otherwise.

    Shards: sizes, checksums, offsets, statistics and splits against the manifest; groups of events, and events of one
    time and place, in two splits. Archives and shards: unreadable
    files, swapped variables, wrong units, flipped axes, frames out of order, constant fields, frames in two events,
    values outside the range of a radar.

    Example: polarcast data check /data/NJU-CPOL
    """
    from polarcast.data.shards.manifest import NAME, read_manifest

    if (path / NAME).is_file():
        from polarcast.data.check.shards import check_shards

        manifest = read_manifest(path)
        with progress("shards", len(manifest.shards)) as done:
            findings = check_shards(manifest, done, fast)
    else:
        from polarcast.data.archive import open_archive
        from polarcast.data.check.archive import check_archive

        archive = open_archive(path)
        with progress("events", len(archive.frames)) as done:
            findings = check_archive(archive, processes_of(workers), done)
    report_findings(findings, as_json)


def _group_counts(manifest: "Manifest") -> dict[str, int]:
    return {name: manifest.count_groups(events) for name, events in manifest.splits.items()}


def _split_counts(manifest: "Manifest") -> str:
    """Return the events of each split, and their groups where these are fewer."""
    events = ", ".join(f"{name} {len(members)}" for name, members in manifest.splits.items())
    groups = ", ".join(f"{name} {n}" for name, n in _group_counts(manifest).items())
    return f"events: {events}; groups: {groups}" if manifest.groups else f"events: {events}"


def _check_new(out: Path) -> None:
    """Check that a folder can be made: it is new or empty, and so is the working folder beside it."""
    if out.name in ("", ".."):
        raise BadInput("is not a new folder", out, "give the path of a new folder")
    checked_output(out, is_folder=True)
    checked_output(out.with_name(f".partial_{out.name}"), is_folder=True)
    if out.is_dir() and any(out.iterdir()):
        raise BadInput("the folder exists and is not empty", out, "give a new folder, or delete it first")


def _distinct(values: list[_Value] | None, option: str) -> list[_Value]:
    """Return values of a list option. Raises BadInput if there are none, or one is repeated."""
    if not values or len(set(values)) < len(values):
        raise BadInput("no values, or repeated ones", option, "give each value once, separated by commas")
    return values


def _acceptance_table(found: "Exploration") -> "Table":
    """Return the acceptance table: measured values, accepted ranges, and whether they match."""
    from rich.markup import escape
    from rich.table import Table

    count = f"{found.events} event{'s' * (found.events != 1)}"
    count += f" of {found.groups} group{'s' * (found.groups != 1)}" if found.groups < found.events else ""
    table = Table(title=f"Statistics compared with warm-season rain at C band, {count}", title_justify="left")
    for name in ("measured", "value", "accepted", ""):
        table.add_column(name, justify="left" if name == "measured" else "right")
    for row in found.acceptance:
        accepted = f"{row.low:g} … {row.high:g}"
        table.add_row(escape(row.test), f"{row.value:.3f}" if isfinite(row.value) else "–", accepted, _mark(row))
    return table


def _beside_table(compared: "SideBySide") -> "Table":
    """Return a table of an archive and of synthetic events of a preset."""
    from rich.markup import escape
    from rich.table import Table

    events = f"{compared.archive_events} event{'s' * (compared.archive_events != 1)}"
    title = f"{events} beside {compared.synthetic_events} synthetic ones of the preset {compared.preset}"
    table = Table(title=title, title_justify="left")
    for name in ("measured", "archive", "± s.e.", compared.preset, "least … greatest", ""):
        table.add_column(name, justify="left" if name == "measured" else "right")
    for row, following in zip(compared.rows, [*compared.rows[1:], None], strict=True):
        ends = f"{row.least:.3f} … {row.greatest:.3f}" if isfinite(row.least) else "–"
        values = (f"{v:.3f}" if isfinite(v) else "–" for v in (row.archive, row.standard_error, row.median))
        last = following is None or following.group != row.group
        table.add_row(escape(row.quantity), *values, ends, _judgement(row), end_section=last)
    return table


def _judgement(row: "Beside") -> str:
    if row.is_off is None:
        return "[dim]not judged[/]"
    mark = "[red]off[/]" if row.is_off else ""
    return f"{mark} [dim]few events[/]".strip() if row.has_few_events else mark


def _print_off(compared: "SideBySide") -> None:
    """Print the rule, and a sentence for each row that is off."""
    from polarcast.data.synth.side_by_side import RULE

    judged = sum(row.is_off is not None for row in compared.rows)
    off = "".join(f"\noff: {sentence}" for sentence in compared.off)
    print_text(f"{RULE}\n{len(compared.off)} of {judged} rows are off{off}")


def _mark(row: "AcceptanceRow") -> str:
    if not isfinite(row.value):
        return "[dim]undefined[/]"
    return "[green]pass[/]" if row.passed else "[red]outside[/]"
