"""The verb `polarcast data fetch`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.hpc.utils.console import Json, plain, print_json, print_marked, print_text, stages
from polarcast.hpc.utils.exit_codes import BAD_INPUT, FAILED, INTERRUPTED

if TYPE_CHECKING:
    from rich.table import Table

    from polarcast.data.fetch.run import FetchReport, FetchSettings

_EXAMPLES = {
    "nexrad": "polarcast data fetch nexrad KLBB --from 2016-05-31T12 --to 2016-06-02 --out raw",
    "fmi": "polarcast data fetch fmi fiuta --from 2024-07-01 --to 2024-07-02 --out raw",
}
_MOST_LISTED = 5

_Network = Annotated[str, typer.Argument(help="nexrad or fmi.")]
_Station = Annotated[str | None, typer.Argument(help="Code of the radar, such as KLBB or fiuta.")]
_From = Annotated[str | None, typer.Option("--from", help="First date or time, UTC.")]
_To = Annotated[str | None, typer.Option("--to", help="Date or time, UTC, at which the period ends; itself not in it.")]
_OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder; the volumes go to OUT/STATION.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell files, GB and time, and write nothing.")]
_Storms = Annotated[int, typer.Option(min=0, max=1000, help="Only the wettest windows, this many; 0 for all volumes.")]
_Hours = Annotated[int, typer.Option(min=1, max=48, help="Hours of a window of --storms.")]
_Every = Annotated[
    int, typer.Option(min=1, max=1000, help="Every n-th volume; gaps above 15 minutes divide events of ingest.")
]
_Connections = Annotated[int, typer.Option(min=1, max=32, help="Number of connections.")]
_Endpoint = Annotated[
    str | None, typer.Option(help="URL of another S3 server with the bucket; by default AWS_ENDPOINT_URL, or AWS.")
]


def fetch(
    network: _Network, station: _Station = None, start: _From = None, end: _To = None, out: _OutFolder = None,
    dry_run: _DryRun = False, storms: _Storms = 0, hours: _Hours = 3, every: _Every = 1, workers: _Connections = 4,
    endpoint: _Endpoint = None, as_json: bool = Json,
) -> None:  # fmt: skip
    """Fetch radar volumes from an open archive; resume after an interruption.

    Networks: nexrad (NEXRAD level II, USA) and fmi (Finland), both on S3 and anonymous. Sizes and checksums are held
    against the bucket's. Files that are there and intact are skipped. Volumes that can't be had are listed (exit code
    1, or 2 if none could be had). Requires the extra `fetch` of the package; --storms also requires `ingest`.

    Example: polarcast data fetch nexrad KLBB --from 2016-05-31T12 --to 2016-06-02 --out raw --dry-run

    Example: polarcast data fetch nexrad KLBB --from 2016-04-01 --to 2016-10-01 --storms 20 --hours 3 --out raw
    """
    from polarcast.data.fetch.networks import network_of, period_of

    found = network_of(network)
    options = {"STATION": station, "--from": start, "--to": end, "--out": out or (dry_run or None)}
    if missing := [name for name, value in options.items() if value is None]:
        needs = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        raise BadInput(needs, f"polarcast data fetch {found.name}", f"give it as in: {_EXAMPLES[found.name]}")
    from polarcast.data.fetch.run import FetchSettings, preview
    from polarcast.data.fetch.run import fetch as fetch_volumes

    settings = FetchSettings(
        found, found.station(station or ""), period_of(start or "", end or ""), every, storms, hours, workers, endpoint
    )
    folder = checked_output(out or Path("raw"), is_folder=True)
    try:
        with stages() as bars:
            report = preview(folder, settings, bars) if dry_run else fetch_volumes(folder, settings, bars)
    except KeyboardInterrupt:  # Typer would end without a word
        print("polarcast: interrupted — run the same command to continue", file=sys.stderr, flush=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        plan = report.plan.as_record(workers)
        print_json({"out": str(folder / settings.station), "dry_run": dry_run, "plan": plan, **report.as_record()})
    else:
        (_print_plan if dry_run else _print_report)(folder, settings, report)
    _exit(report)


def _exit(report: "FetchReport") -> None:
    if report.failed or report.not_tried:
        raise typer.Exit(FAILED if report.fetched or report.known else BAD_INPUT)


def _print_found(settings: "FetchSettings", report: "FetchReport") -> None:
    """Print what was asked for, and the ranking of storms."""
    print_text(f"{settings.station}, {settings.network.title}, {settings.period}")
    if report.storms:
        print_text(_ranking(report, settings.hours))
        chosen = sum(window.is_chosen for window in report.storms)
        if chosen < settings.storms:
            print_text(f"{chosen} windows a day apart have volumes without gaps, fewer than {settings.storms}")
        if dry := sum(window.is_chosen and window.share == 0 for window in report.storms):
            print_text(f"{dry} of the chosen windows had no 35 dBZ in the volume that was looked at")


def _ranking(report: "FetchReport", hours: int) -> "Table":
    """Return the ranking of the windows; further ones that were not chosen are left out."""
    from rich.table import Table

    table = Table(title=f"windows of {hours} h, the wettest first", title_justify="left")
    for name in ("start, UTC", "volumes", "GB", "size by median", "≥ 35 dBZ, % of area", "chosen"):
        table.add_column(name, justify="left" if name in ("start, UTC", "chosen") else "right")
    chosen = sum(window.is_chosen for window in report.storms)
    for window in report.storms[: chosen + _MOST_LISTED]:
        share = "–" if window.share is None else f"{100 * window.share:.2f}"
        size = sum(file.size for file in window.files) / 1e9
        table.add_row(
            f"{window.period.start:%Y-%m-%d %H:%M}", str(len(window.files)), f"{size:.2f}",
            f"{window.size_ratio:.2f}", plain(window.problem) or share, "yes" if window.is_chosen else "",
        )  # fmt: skip
    return table


def _print_plan(out: Path, settings: "FetchSettings", report: "FetchReport") -> None:
    from polarcast.data.fetch.plan import in_words
    from polarcast.hpc.utils.progress import time_words

    _print_found(settings, report)
    plan = report.plan
    there = f", {plan.known} of them there already" if plan.known else ""
    print_text(f"{len(plan.files)} volumes, {in_words(plan.total_bytes)}{there}; {_others(report)}")
    seconds = plan.seconds(settings.workers)
    if seconds is None or plan.rate is None:
        print_text(f"{in_words(plan.missing_bytes)} to fetch; the rate could not be measured")
    else:
        low, high = map(time_words, seconds)
        rate = f"{in_words(plan.rate)} per second on one connection; {settings.workers} are used"
        print_text(f"{in_words(plan.missing_bytes)} to fetch: {low} to {high} ({rate})")
    if report.storms:
        print_text("ranked by size only: without --dry-run a volume of each window is read, which changes the order")
    print_text("nothing was written")


def _print_report(out: Path, settings: "FetchSettings", report: "FetchReport") -> None:
    from polarcast.data.fetch.plan import in_words

    _print_found(settings, report)
    for key, reason in report.failed.items():
        print_marked("failed", "red", f"{key}: {reason}")
    if report.not_tried:
        print_marked("failed", "red", f"{report.not_tried} more were not tried, because too many failed in a row")
    for what, keys in (
        ("changed in the bucket since they were fetched, and were fetched again", report.changed),
        ("were not as they had been fetched, and were fetched again", report.repaired),
    ):
        if keys:
            more = f" and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else ""
            print_text(f"{len(keys)} {what}: {plain(', '.join(keys[:_MOST_LISTED]))}{more}")
    folder = plain(out / settings.station)
    counts = f"{len(report.fetched)} fetched ({in_words(report.received)} came), {len(report.known)} there already"
    print_text(f"{len(report.plan.files)} volumes in {folder}: {counts}; {_others(report)}")
    if report.checked:
        print_text("checked: " + ", ".join(f"{n} by {how}" for how, n in sorted(report.checked.items())))
    if report.failed or report.not_tried:
        print_text("run the same command again for those that failed")
    if report.fetched or report.known:
        print_text(f"next: polarcast data ingest archive {folder}")


def _others(report: "FetchReport") -> str:
    return f"{report.others} other objects of these days are not taken"
