"""Render boards as a terminal table, CSV, or a static page with client-side filters and sorting."""

from collections.abc import Sequence
from typing import Any

from polarcast.hpc.config.schema import ARMS
from polarcast.hpc.leaderboard.ranking import Board, Place
from polarcast.hpc.scores.stats.paired import DISTANCE, RATIO
from polarcast.hpc.scores.wording import arrow
from polarcast.hpc.utils.pages.bars import BarScale, interval_bar
from polarcast.hpc.utils.pages.elements import contents, notes, section
from polarcast.hpc.utils.pages.page import render_page
from polarcast.hpc.utils.pages.tables import (
    PageCell,
    PageColumn,
    PageFilter,
    PageRow,
    filter_form,
    number_markup,
    page_table,
)
from polarcast.hpc.utils.text import csv_text

ONE_SEED = (
    "Each run is one training: intervals contain the variation between events only, and runs that differ only in their "
    "seed differ by an unknown amount. A table of several seeds includes it."
)
_ABOUT_TIES = (
    "Rows with = and a line at their left tie with the first: the interval of the paired comparison over the same test "
    "events includes 1, for a ratio of errors, or 0, for a difference of skill scores."
)
_TITLE = "polarcast leaderboard"
_KEY = ""
"""All boards of a page share their order and filters."""
INTERVAL, EVENTS_INTERVAL = "95% interval", "events' interval"
_COLUMNS = ("rank", "run", "model", "arm", "seed", "value", INTERVAL, "tied", "parameters", "GFLOPs a forecast",
            "process-hours", "kWh", "standing")  # fmt: skip
_TEXTS = (1, 2, 3, 7, 12)
"""Columns of words."""


def terminal_table(board: Board) -> Any:
    """Return a rich table, best run first; = marks runs that are not significantly different from the first."""
    from rich.markup import escape
    from rich.table import Table

    heading = f"{board.title}: {_score_name(board)}"
    table = Table(title=escape(heading), caption=escape(_caption(board)))
    for name in ("rank", "run", "arm", "value", _interval_name(board), "parameters", "process-hours", "kWh", ""):
        table.add_column(name, justify="left" if name in ("run", "arm", "") else "right", no_wrap=name != "run")
    for place in board.places:
        row = place.as_row()
        rank = f"{row['rank']}{place.mark}"
        costs = (_count(row["parameters"]), _number(row["process_hours"]), _number(row["kilowatt_hours"]))
        cells = (_number(row["value"]), _interval(row), *costs)
        table.add_row(rank, escape(row["run"]), row["arm"], *cells, row["standing"])
    return table


def _score_name(board: Board) -> str:
    if not board.places:
        return ""
    return f"{board.score.heading(board.places[0].entry.records.protocol)} {arrow(board.score.metric)}"


def _lacks_seeds(board: Board) -> bool:
    return any(place.lacks_seeds for place in board.places)


def _interval_name(board: Board) -> str:
    return EVENTS_INTERVAL if _lacks_seeds(board) else INTERVAL


def _caption(board: Board) -> str:
    what, equal = ("ratio to", 1) if board.score.metric.scale == RATIO else ("difference from", 0)
    lines = [f"= no difference from the first shown: the {_interval_name(board)} of the {what} it includes {equal}"]
    if board.score.metric.scale == DISTANCE:
        lines[0] += ", or both scores may be as near to the best value"
    if any(place.has_no_comparison for place in board.places):
        lines.append("? no interval of the comparison with the first: too few events, or a score without any error")
    if _lacks_seeds(board):
        lines.append(ONE_SEED)
    lines += [f"not ranked: {entry.name}, {reason}" for entry, reason in board.unranked]
    return "\n".join(lines)


def as_csv(boards: Sequence[Board]) -> str:
    """Return one CSV line per ranked run."""
    rows = [{"task": b.task, "data": b.data, "score": str(b.score), **p.as_row()} for b in boards for p in b.places]
    return csv_text(rows, list(rows[0]) if rows else ["task", "data", "score"])


def as_page(boards: Sequence[Board]) -> str:
    """Return a self-contained HTML page; its address holds the filters, so that a view can be shared.

    Scripts that read the page find the boards as values in `BOARDS`.
    """
    arms = PageFilter("arm", "arm", ARMS)
    form = filter_form(
        _KEY, _TITLE, [arms], search="run or model", checkbox=("tied", "only runs that tie with the first")
    )
    sections = [line for number, board in enumerate(boards) for line in _section(number, board)]
    entries = {f"board-{number}": f"{board.title}: {_score_mark(board)}" for number, board in enumerate(boards)}
    parts = [contents(entries)] * (len(boards) > 1) + [form, *sections, notes([_ABOUT_TIES])]
    return render_page(_TITLE, parts, data={"BOARDS": [_for_page(board) for board in boards]})


def _section(number: int, board: Board) -> list[str]:
    name, title = f"board-{number}", f"{board.title}: {_score_mark(board)}"
    content = _for_page(board)
    scale = BarScale.around([limit for place in board.places for limit in (place.low, place.high, place.value)])
    columns = [PageColumn(text, i in _TEXTS) for i, text in enumerate(content["columns"])]
    rows = [_row(place, values, scale) for place, values in zip(board.places, content["rows"], strict=True)]
    apart = [f"not ranked: {one['run']}, {one['why']}" for one in content["apart"]]
    table = page_table(name, title, columns, rows, key=_KEY)
    return section(name, title, [table, notes([*filter(None, [content["note"]]), *apart])])


def _row(place: Place, values: Sequence[Any], scale: BarScale) -> PageRow:
    cells = [PageCell(_shown(value), value if isinstance(value, int | float) else None) for value in values]
    bar = interval_bar(place.value, place.low, place.high, scale)
    if bar:
        at = _COLUMNS.index(INTERVAL)
        cells[at] = PageCell(cells[at].text, place.low, number_markup(cells[at].text, bar))
    filters = {"arm": place.entry.config.arm, "tied": "1" if place.mark == "=" else "0"}
    return PageRow(cells, filters, "tied" if place.mark == "=" else "")


def _score_mark(board: Board) -> str:
    return f"{board.score} {arrow(board.score.metric)}".rstrip()


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1e5 else f"{value:,.0f}"


def _for_page(board: Board) -> dict[str, Any]:
    unranked = [{"run": entry.name, "why": reason} for entry, reason in board.unranked]
    return {
        "title": board.title, "score": _score_mark(board),
        "columns": [_interval_name(board) if name == INTERVAL else name for name in _COLUMNS],
        "note": ONE_SEED if _lacks_seeds(board) else "",
        "rows": [_page_row(place) for place in board.places], "apart": unranked,
    }  # fmt: skip


def _page_row(place: Place) -> list[Any]:
    row = place.as_row()
    flops = row["forecast_flops"]
    return [
        row["rank"], row["run"], row["model"], row["arm"], row["seed"], row["value"], _interval(row),
        place.mark, row["parameters"], None if flops is None else flops / 1e9,
        row["process_hours"], row["kilowatt_hours"], row["standing"],
    ]  # fmt: skip


def _interval(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f"[{row['low']:.3g}, {row['high']:.3g}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
