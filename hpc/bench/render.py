"""Render tables of scores for the terminal, Markdown, LaTeX, CSV and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from polarcast.data.files import write_text
from polarcast.hpc.bench.contrasts import ARM_NAMES, arm_rank, is_versus
from polarcast.hpc.bench.costs import QUANTITIES, Cost, cost_rows
from polarcast.hpc.bench.footnotes import footnote
from polarcast.hpc.bench.latex import latex_table
from polarcast.hpc.bench.layout import TableLayout, lay_out
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.bench.verdicts import verdicts
from polarcast.hpc.utils.text import csv_text, markdown_text

COST_TITLE = "Cost by model and arm"
_LABEL_WIDTH = 12
"""Characters of a label that a narrow terminal keeps, if it has so many."""


def write_table(folder: Path, table: ComparisonTable) -> None:
    """Write `<table>.json`, `.csv`, `.md` and `.tex` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = table.records[0].table
    write_text(folder / f"{stem}.json", json.dumps(as_record(table), indent=1) + "\n")
    write_text(folder / f"{stem}.csv", _csv(table.records))
    write_text(folder / f"{stem}.md", markdown(table))
    write_text(folder / f"{stem}.tex", latex(table))


def as_record(table: ComparisonTable) -> dict[str, Any]:
    """Return a table and its verdicts as plain values for JSON."""
    return {**table.as_record(), "verdicts": verdicts(table)}


def write_costs(folder: Path, costs: Sequence[Cost]) -> None:
    """Write `cost.json`, `.csv`, `.md` and `.tex`: parameters and FLOPs by model and arm; nothing without costs."""
    if rows := cost_rows(costs):
        grid = cost_grid(costs)
        write_text(folder / "cost.json", json.dumps({"title": COST_TITLE, "records": rows}, indent=1) + "\n")
        write_text(folder / "cost.csv", csv_text(rows, list(rows[0])))
        write_text(folder / "cost.md", "\n".join([*_markdown_grid(COST_TITLE, grid), ""]))
        write_text(folder / "cost.tex", latex_table(grid, COST_TITLE, "cost"))


def cost_grid(costs: Sequence[Cost]) -> TableLayout:
    """Lay out parameters and FLOPs by model and arm, with their ratio to those of the dual-pol arm."""
    head = ["model", "arm", *(text for name in QUANTITIES.values() for text in (name, "vs dual-pol"))]
    lines = [
        [str(row["label"]), ARM_NAMES[str(row["arm"])], *(text for name in QUANTITIES for text in _cost(row, name))]
        for row in cost_rows(costs)
    ]
    return TableLayout(head, lines, 2)


def _cost(row: Mapping[str, Any], name: str) -> tuple[str, str]:
    value, ratio = row[name], row[f"{name}_ratio"]
    return "" if value is None else f"{value:,.0f}", "" if ratio is None else f"{ratio:.3f}"


def markdown(table: ComparisonTable) -> str:
    """Return the table as Markdown."""
    lines = _markdown_grid(table.title, lay_out(table))
    sentences = [f"- {markdown_text(sentence)}" for sentence in verdicts(table)]
    return "\n".join([*lines, "", markdown_text(footnote(table)), *(["", *sentences] if sentences else []), ""])


def latex(table: ComparisonTable) -> str:
    """Return the table as LaTeX, with its notes and without the sentences of its verdict."""
    stem = table.records[0].table
    return latex_table(lay_out(table), table.title, stem, footnote(table).splitlines())


def _markdown_grid(title: str, grid: TableLayout) -> list[str]:
    rule = "|" + "---|" * grid.labels + "---:|" * (len(grid.head) - grid.labels)
    lines = [f"**{markdown_text(title)}**", "", _markdown_row(grid.head), rule]
    return lines + [_markdown_row(line) for line in grid.lines]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def terminal_table(table: ComparisonTable) -> Table:
    """Return the table for a terminal; rows that share the first label are grouped, and the label is printed once."""
    (narrow, left_out), notes = _narrow(table), footnote(table)
    if left_out:
        notes += f"\nComparisons with {' and '.join(left_out)}: in the report and in tables/."
    shown = Table(title=escape(table.title), caption=escape(notes), title_justify="left", caption_justify="left")
    grid = lay_out(narrow)
    for position, name in enumerate(grid.head):
        is_value = position >= grid.labels
        least = None if is_value else min(_LABEL_WIDTH, max(len(line[position]) for line in grid.lines))
        shown.add_column(escape(name), justify="right" if is_value else "left", no_wrap=is_value, min_width=least)
    _add_rows(shown, grid)
    return shown


def _narrow(table: ComparisonTable) -> tuple[ComparisonTable, list[str]]:
    """Leave out columns that exceed the width of a terminal; return the references of those comparisons, too.

    One comparison of the arms is left: dual-pol with radar, where there is one.
    """
    if "arm" not in table.columns or table.only_comparisons:
        return table, []
    comparisons = sorted({r.arm for r in table.records if r.is_comparison}, key=arm_rank)
    of_arms = [arm for arm in comparisons if not is_versus(arm)]
    left_out = ["placebo"] * (len(of_arms) > 1) + [table.versus] * (len(of_arms) < len(comparisons))
    kept = [r for r in table.records if not r.is_comparison or r.arm in of_arms[:1]]
    return replace(table, records=kept), left_out


def _add_rows(shown: Table, grid: TableLayout) -> None:
    for line, following in zip(grid.lines, [*grid.lines[1:], None], strict=True):
        starts = shown.row_count == 0 or shown.rows[-1].end_section
        ends = grid.labels > 1 and (following is None or following[0] != line[0])
        first = line[0] if starts or grid.labels == 1 else ""
        shown.add_row(escape(first), *map(escape, line[1:]), end_section=ends)


def _csv(records: Sequence[Record]) -> str:
    rows = [record.as_row() for record in records]
    return csv_text(rows, list(rows[0]))
