"""An exploration, for the terminal."""

from collections.abc import Sequence
from math import isfinite

from rich.markup import escape
from rich.table import Table

from polarcast.data.explore.explore import Exploration
from polarcast.data.explore.measures import Row
from polarcast.data.synth.side_by_side import Beside


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


def beside_table(rows: Sequence[Beside], preset: str) -> Table:
    """An archive beside synthetic events of a preset."""
    table = Table(title=f"Beside synthetic events of the preset {preset}", title_justify="left")
    for name in ("measured", "archive", preset, "least … greatest event"):
        table.add_column(name, justify="left" if name == "measured" else "right")
    for row in rows:
        ends = f"{row.least:.3f} … {row.greatest:.3f}" if isfinite(row.least) else "–"
        values = (f"{v:.3f}" if isfinite(v) else "–" for v in (row.archive, row.median))
        table.add_row(escape(row.quantity), *values, ends)
    return table


def _mark(row: Row) -> str:
    if not isfinite(row.value):
        return "[dim]undefined[/]"
    return "[green]pass[/]" if row.passed else "[red]outside[/]"
