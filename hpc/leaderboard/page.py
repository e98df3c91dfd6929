"""Render boards as a terminal table, CSV, or a static page with client-side filters and sorting."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polarcast.hpc.leaderboard.ranking import Board, Place
from polarcast.hpc.utils.text import csv_text, script_json

_TEMPLATE = Path(__file__).with_name("page.html")
_COLUMNS = ("rank", "run", "model", "arm", "seed", "value", "95% interval", "tied", "parameters", "GFLOPs a forecast",
            "process-hours", "kWh", "standing")  # fmt: skip


def terminal_table(board: Board) -> Any:
    """Return a rich table, best run first; = marks runs that are not significantly different from the first."""
    from rich.markup import escape
    from rich.table import Table

    heading = f"{board.title}: {board.score.heading(board.places[0].entry.records.protocol) if board.places else ''}"
    table = Table(title=escape(heading), caption=escape(_caption(board)))
    for name in ("rank", "run", "arm", "value", "95% interval", "parameters", "process-hours", "kWh", ""):
        table.add_column(name, justify="left" if name in ("run", "arm", "") else "right", no_wrap=name != "run")
    for place in board.places:
        row = place.as_row()
        rank = f"{row['rank']}{'=' if place.is_tied else ''}"
        costs = (_count(row["parameters"]), _number(row["process_hours"]), _number(row["kilowatt_hours"]))
        cells = (_number(row["value"]), _interval(row), *costs)
        table.add_row(rank, escape(row["run"]), row["arm"], *cells, row["standing"])
    return table


def _caption(board: Board) -> str:
    lines = ["= not significantly different from the first: the 95% interval of the paired difference contains zero"]
    lines += [f"not ranked: {entry.name}, {reason}" for entry, reason in board.unranked]
    return "\n".join(lines)


def as_csv(boards: Sequence[Board]) -> str:
    """Return one CSV line per ranked run."""
    rows = [{"task": b.task, "data": b.data, "score": str(b.score), **p.as_row()} for b in boards for p in b.places]
    return csv_text(rows, list(rows[0]) if rows else ["task", "data", "score"])


def as_page(boards: Sequence[Board]) -> str:
    """Return a self-contained HTML page; its URL holds the filters, so that a view can be shared."""
    content = script_json([_for_page(board) for board in boards])
    return _TEMPLATE.read_text("utf-8").replace("__BOARDS__", content)


def _for_page(board: Board) -> dict[str, Any]:
    unranked = [{"run": entry.name, "why": reason} for entry, reason in board.unranked]
    return {
        "title": board.title, "score": str(board.score), "columns": _COLUMNS,
        "rows": [_page_row(place) for place in board.places], "apart": unranked,
    }  # fmt: skip


def _page_row(place: Place) -> list[Any]:
    row = place.as_row()
    flops = row["forecast_flops"]
    return [
        row["rank"], row["run"], row["model"], row["arm"], row["seed"], row["value"], _interval(row),
        "=" if place.is_tied else "", row["parameters"], None if flops is None else flops / 1e9,
        row["process_hours"], row["kilowatt_hours"], row["standing"],
    ]  # fmt: skip


def _interval(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f"[{row['low']:.3g}, {row['high']:.3g}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
