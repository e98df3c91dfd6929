"""Render the measurement of `polarcast perf gpu` as a table."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table

from polarcast.hpc.perf.gpu import NOT_MEASURED

_Row = Mapping[str, Any]


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _together(row: _Row) -> str:
    if row["together_gain"] is None:
        return NOT_MEASURED
    return f"{row['together']}: {row['together_samples_per_second']:,.0f} ({row['together_gain']:.1f} ×)"


COLUMNS: dict[str, Callable[[_Row], str]] = {
    "network": lambda row: f"{row['name']}, {row['parameters'] / 1e6:.1f} M",
    "batch": lambda row: f"{row['batch']} × {row['size']}²",
    "step, ms": lambda row: _ms(row["plain_ms"]),
    "with graphs, ms": lambda row: _ms(row["graphs_ms"]),
    "samples/s": lambda row: f"{row['samples_per_second']:,.0f}",
    "MFU": lambda row: "n/a" if row["mfu"] is None else f"{row['mfu']:.1%}",
    "data wait": lambda row: f"{row['waiting']:.1%}",
    "nets together, samples/s": _together,
}


def gpu_table(found: Mapping[str, Any]) -> Table:
    """Return the table; its caption says why graphs or nets together are missing."""
    reasons = {f"{row['name']}: {row['graphs']}" for row in found["rows"] if row["graphs_ms"] is None}
    reasons |= {f"{row['name']}: {row['together_note']}" for row in found["rows"] if ":" in row["together_note"]}
    table = Table(title=f"perf gpu, {found['machine']['device']}", caption="\n".join(sorted(reasons)) or None)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in found["rows"]:
        table.add_row(*(cell(row) for cell in COLUMNS.values()))
    return table
