"""An exploration, for the terminal."""

from math import isfinite

from rich.markup import escape
from rich.table import Table

from polarcast.data.explore.explore import Exploration
from polarcast.data.explore.measures import Row


def acceptance_table(found: Exploration) -> Table:
    """The acceptance table: what was measured, the accepted range, and whether it lies within."""
    count = f"{found.events} event{'s' * (found.events != 1)}"
    table = Table(title=f"Does it behave like warm-season rain at C band? {count}", title_justify="left")
    for name in ("measured", "value", "accepted", ""):
        table.add_column(name, justify="left" if name == "measured" else "right")
    for row in found.acceptance:
        accepted = f"{row.low:g} … {row.high:g}"
        table.add_row(escape(row.test), f"{row.value:.3f}" if isfinite(row.value) else "–", accepted, _mark(row))
    return table


def _mark(row: Row) -> str:
    if not isfinite(row.value):
        return "[dim]undefined[/]"
    return "[green]pass[/]" if row.passed else "[red]outside[/]"
