"""Render tables of scores for the terminal, Markdown, CSV and JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polarcast.data.files import write_text
from polarcast.hpc.bench.table import ARM_NAMES, DIFFERENCE, ComparisonTable, Record
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, coordinate_label, parse_score
from polarcast.hpc.utils.text import csv_text, markdown_text

_DETECTABLE_SHOWN = 8
INTERVAL = "95% interval"

Key = tuple[str, ...]


@dataclass(frozen=True)
class TableLayout:
    """A table as text.

    Attributes:
        head: Column headings.
        lines: Cells of each row.
        labels: Number of leading columns that are labels.
    """

    head: list[str]
    lines: list[list[str]]
    labels: int


def lay_out(table: ComparisonTable) -> TableLayout:
    """Lay out a table by its dimensions: model, metric, arm, and any axis of the scores.

    If `arm` is the last dimension of the columns, a further column shows the interval of the difference (or of the only
    arm).
    """
    keys = [_keys(record, table) for record in table.records]
    rows = list(dict.fromkeys(row for row, _ in keys))
    columns = list(dict.fromkeys(column for _, column in keys))
    cells = dict(zip(keys, table.records, strict=True))
    with_interval = table.columns[-1] == "arm"
    shown = list(_with_intervals(columns)) if with_interval else [(c, _value) for c in columns]
    heads = [_head(column, of is _interval) for column, of in shown]
    lines = [[*row, *(of(cells[row, c]) if (row, c) in cells else "" for c, of in shown)] for row in rows]
    return TableLayout([*map(_dimension_name, table.rows), *heads], lines, len(table.rows))


def _with_intervals(columns: Sequence[Key]) -> "list[tuple[Key, Callable[[Record], str]]]":
    shown: list[tuple[Key, Callable[[Record], str]]] = []
    for column, following in zip(columns, [*columns[1:], None], strict=True):
        shown.append((column, _value))
        if following is None or following[:-1] != column[:-1]:
            shown.append((column, _interval))
    return shown


def _head(column: Key, is_interval: bool) -> str:
    parts = [*column[:-1], INTERVAL] if is_interval else list(column)
    return ", ".join(part for part in parts if part)


def _keys(record: Record, table: ComparisonTable) -> tuple[Key, Key]:
    score = parse_score(record.metric)
    apart = [*table.rows, *table.columns]
    return (
        tuple(_text(d, record, score, table.protocol, apart) for d in table.rows),
        tuple(_text(d, record, score, table.protocol, apart) for d in table.columns),
    )


def _text(dimension: str, record: Record, score: Score, protocol: Protocol, apart: Sequence[str]) -> str:
    if dimension == "model":
        return record.label
    if dimension == "arm":
        return ARM_NAMES[record.arm]
    if dimension == "metric":
        return score.heading(protocol, without=apart)
    return coordinate_label(dimension, score.at[dimension], protocol) if dimension in score.at else "all"


def _dimension_name(dimension: str) -> str:
    return {"metric": "score", "lead_time": "lead time"}.get(dimension, dimension)


def _value(record: Record) -> str:
    if record.value is None:
        return "–"
    is_difference = record.arm == DIFFERENCE
    stars = ("*" if record.excludes_zero else "") if is_difference else ""
    if stars and record.p_holm is not None and record.p_holm < 0.05:
        stars = "**"
    return _number(record.value, is_difference) + stars


def _interval(record: Record) -> str:
    if record.low is None or record.high is None:
        return "–"
    signed = record.arm == DIFFERENCE
    return f"[{_number(record.low, signed)}, {_number(record.high, signed)}]"


def _number(value: float, signed: bool) -> str:
    plus = "+" if signed else ""
    return f"{value:{plus}#.3g}" if abs(value) < 100 else f"{value:{plus}.0f}"


def write_table(folder: Path, table: ComparisonTable) -> None:
    """Write `<table>.json`, `.csv` and `.md` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = table.records[0].table
    write_text(folder / f"{stem}.json", json.dumps(table.as_record(), indent=1) + "\n")
    write_text(folder / f"{stem}.csv", _csv(table.records))
    write_text(folder / f"{stem}.md", markdown(table))


def markdown(table: ComparisonTable) -> str:
    """Return the table as Markdown."""
    grid = lay_out(table)
    rule = "|" + "---|" * grid.labels + "---:|" * (len(grid.head) - grid.labels)
    lines = [f"**{markdown_text(table.title)}**", "", _markdown_row(grid.head), rule]
    lines += [_markdown_row(line) for line in grid.lines]
    return "\n".join([*lines, "", markdown_text(footnote(table)), ""])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def terminal_table(table: ComparisonTable) -> Table:
    """Return the table for a terminal; rows that share the first label are grouped, and the label is printed once."""
    shown = Table(
        title=escape(table.title), caption=escape(footnote(table)), title_justify="left", caption_justify="left"
    )
    grid = lay_out(table)
    for position, name in enumerate(grid.head):
        is_value = position >= grid.labels
        shown.add_column(escape(name), justify="right" if is_value else "left", no_wrap=is_value)
    _add_rows(shown, grid)
    return shown


def _add_rows(shown: Table, grid: TableLayout) -> None:
    for line, following in zip(grid.lines, [*grid.lines[1:], None], strict=True):
        starts = shown.row_count == 0 or shown.rows[-1].end_section
        ends = grid.labels > 1 and (following is None or following[0] != line[0])
        first = line[0] if starts or grid.labels == 1 else ""
        shown.add_row(escape(first), *map(escape, line[1:]), end_section=ends)


def footnote(table: ComparisonTable) -> str:
    """Return the notes of a table: sample, aggregation, intervals, markers, detectable differences, and its data."""
    first = table.records[0]
    how = {
        "pooled": "scores from sums over all events (pooled)",
        "mean": "scores averaged over events (mean)",
    }[first.aggregation]
    seeds = sorted({r.seeds for r in table.records})
    count = f"{first.events} test event{'s' * (first.events != 1)}, {_range(seeds)} seed{'s' * (seeds != [1])}; {how}"
    if first.events < 2:
        parts = [f"{count}: no interval can be given for a single event."]
    else:
        over_seeds = "" if seeds[-1] == 1 else ", and Student's t over seeds"
        parts = [f"{count}; 95% intervals by paired bootstrap over events{over_seeds}.", *_about_differences(table)]
    return "\n".join(parts + ([f"Note: {table.note}."] if table.note else []))


def _range(numbers: list[int]) -> str:
    return "–".join(str(n) for n in dict.fromkeys((numbers[0], numbers[-1])))


def _about_differences(table: ComparisonTable) -> list[str]:
    found = [r for r in table.records if r.arm == DIFFERENCE and r.p_value is not None]
    if not found:
        return []
    count = f"{len(found)} difference{'s' * (len(found) != 1)}"
    notes = [f"* 95% interval excludes zero; ** also after Holm correction for the {count} of this table."]
    if any(r.seeds == 1 for r in found):
        notes.append(
            "Intervals of models with one seed exclude the variation between training runs, which may be larger; "
            "set seeds: [0, 1, 2] to include it."
        )
    detectable = _detectable(table, found)
    shown = "; ".join(detectable[:_DETECTABLE_SHOWN]) + ("; …" if len(detectable) > _DETECTABLE_SHOWN else "")
    return [*notes, f"Smallest difference detected with 80% power in every row, for these events and seeds: {shown}."]


def _detectable(table: ComparisonTable, differences: Sequence[Record]) -> list[str]:
    """Return the smallest true difference of each score that is detected in the noisiest row."""
    by_metric: dict[str, float] = {}
    for r in differences:
        by_metric[r.metric] = max(by_metric.get(r.metric, 0.0), r.detectable or 0.0)
    return [f"{parse_score(m).heading(table.protocol)} {value:.2g}" for m, value in by_metric.items()]


def _csv(records: Sequence[Record]) -> str:
    rows = [record.as_row() for record in records]
    return csv_text(rows, list(rows[0]))
