"""The verb `polarcast bench status`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.hpc.cli.checks import suite_folder
from polarcast.hpc.utils.console import Json, print_json, print_text

if TYPE_CHECKING:
    from polarcast.hpc.bench.cluster.status import Queue, SuiteStatus
    from polarcast.hpc.bench.cluster.worker import OpenedSuite

_SECONDS = 5.0
PAGE = "status.html"


def status(
    suite: Annotated[str, typer.Argument(help="Suite as in `bench run`, or the folder of one.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; runs/<suite> by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show it until nothing runs or waits.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the page here; OUT/status.html by default.")] = None,
    as_json: bool = Json,
) -> None:
    """Show the cells of a suite: done, running with step, loss and time left, waiting, failed; and the hours spent.

    It also writes a page, OUT/status.html, which reloads itself while --follow renews it.

    Example: polarcast bench status demo --follow
    """
    folder = suite_folder(suite, out)
    if follow:
        shown = followed(folder, as_json, html)
    else:
        shown, _ = observed(folder)
        write_page(shown, html or folder / PAGE)
        print_text(render(shown)) if not as_json else None
    if as_json:
        print_json(as_record(shown))


def followed(folder: Path, quiet: bool = False, html: Path | None = None) -> "SuiteStatus":
    """Show a suite until nothing runs or waits; return its last state."""
    from polarcast.hpc.bench.cluster.worker import open_suite
    from polarcast.hpc.utils.console import live_block

    opened = open_suite(folder)
    with live_block(quiet) as show:
        while True:
            shown, answered = observed(folder, opened)
            write_page(shown, html or folder / PAGE, refresh=0 if shown.is_over and answered else int(_SECONDS))
            show(render(shown))
            if shown.is_over and answered:
                break
            time.sleep(_SECONDS)
    return shown


def observed(folder: Path, opened: "OpenedSuite | None" = None) -> "tuple[SuiteStatus, bool]":
    """Return the state of a suite, and whether the queue is known or there is none."""
    from polarcast.hpc.bench.cluster.status import status_of
    from polarcast.hpc.bench.cluster.worker import open_suite

    opened = opened or open_suite(folder)
    queue = _queue(folder, opened.suite.name)
    return status_of(opened, queue), queue.is_answered


def _queue(folder: Path, suite: str) -> "Queue":
    from polarcast.hpc.bench.cluster.plan import plans_in
    from polarcast.hpc.bench.cluster.status import Queue, queue_of
    from polarcast.hpc.cli.suite_jobs import listed_by_name

    plans = plans_in(folder)
    if not plans:
        return Queue({}, {})
    listed = listed_by_name(suite, plans)
    return Queue({}, {}, is_answered=False) if listed is None else queue_of(plans, listed)


def as_record(status: "SuiteStatus") -> dict[str, Any]:
    """Return plain values for JSON."""
    from polarcast.hpc.bench.cluster.status import STATES

    counts: Mapping[str, int] = {state: status.count(state) for state in STATES}
    return {
        "suite": status.name, "folder": str(status.folder), "counts": counts, "jobs": dict(status.stages),
        "hours": status.hours, "hours_left": status.hours_left, "gpus": status.on_gpus,
        "slurm_answers": status.is_answered, "cells": [vars(cell) for cell in status.cells],
    }  # fmt: skip


def render(shown: "SuiteStatus") -> Any:
    """Return the state of a suite for the terminal."""
    from polarcast.hpc.bench.cluster.view import terminal

    return terminal(shown)


def write_page(shown: "SuiteStatus", path: Path, refresh: int = 0) -> None:
    """Write the page of the state of a suite; it reloads itself every `refresh` seconds, if that is not 0."""
    from polarcast.data.files import write_text
    from polarcast.hpc.bench.cluster.view import page

    write_text(path, page(shown, refresh))
