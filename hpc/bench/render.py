"""Records → a table for the terminal, Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polarcast.hpc.bench.table import ARM_NAMES, DIFFERENCE, ComparisonTable, Record
from polarcast.hpc.files import write_text
from polarcast.hpc.scores.metrics import METRICS


def write_table(folder: Path, table: ComparisonTable) -> None:
    """Write `<table>.json`, `.csv` and `.md` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = table.records[0].table
    write_text(folder / f"{stem}.json", json.dumps(table.as_record(), indent=1) + "\n")
    write_text(folder / f"{stem}.csv", _csv([r.as_row() for r in table.records]))
    write_text(folder / f"{stem}.md", markdown(table))


def markdown(table: ComparisonTable) -> str:
    """The table as Markdown: a line for each model and metric."""
    head = _head(table.records)
    lines = [f"**{table.title}**", "", "| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    lines += ["| " + " | ".join(line) + " |" for line in _lines(table.records)]
    return "\n".join([*lines, "", footnote(table), ""])


def terminal_table(table: ComparisonTable) -> Table:
    """The table for a terminal: each model is named once, and models are set apart."""
    shown = Table(title=table.title, caption=escape(footnote(table)), title_justify="left", caption_justify="left")
    for position, name in enumerate(_head(table.records)):
        shown.add_column(name, justify="right" if position > 1 else "left", no_wrap=position > 1)
    lines = _lines(table.records)
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        starts = shown.row_count == 0 or shown.rows[-1].end_section
        ends = following is None or following[0] != line[0]
        shown.add_row(line[0] if starts else "", *map(escape, line[1:]), end_section=ends)
    return shown


def footnote(table: ComparisonTable) -> str:
    """What the intervals mean, on how much they stand, and what must be said about the data."""
    events, seeds = table.records[0].events, table.records[0].seeds
    count = f"{events} test event{'s' * (events != 1)}, {seeds} seed{'s' * (seeds != 1)}"
    if events < 2:
        meaning = f"{count}: no interval can be given for a single event."
    else:
        meaning = f"{count}; 95% intervals by paired bootstrap over events; * the interval excludes zero."
    return f"{meaning}\nNote: {table.note}." if table.note else meaning


def _head(records: Sequence[Record]) -> list[str]:
    return ["model", "score", *(ARM_NAMES[arm] for arm in _arms(records)), "95% interval"]


def _arms(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(r.arm for r in records))


def _lines(records: Sequence[Record]) -> list[list[str]]:
    """Label, metric, a value for each arm, and the interval of the difference (or of the only arm)."""
    keys = dict.fromkeys((r.model, r.metric) for r in records)
    groups = [[r for r in records if (r.model, r.metric) == key] for key in keys]
    return [[of[0].label, _heading(of[0].metric), *map(_value, of), _interval(of[-1])] for of in groups]


def _heading(metric: str) -> str:
    unit = METRICS[metric].unit
    return METRICS[metric].label + (f" [{unit}]" if unit != "1" else "")


def _value(record: Record) -> str:
    if record.value is None:
        return "–"
    star = "*" if record.arm == DIFFERENCE and record.excludes_zero else ""
    return _number(record.value, record.arm == DIFFERENCE) + star


def _interval(record: Record) -> str:
    if record.low is None or record.high is None:
        return "–"
    signed = record.arm == DIFFERENCE
    return f"[{_number(record.low, signed)}, {_number(record.high, signed)}]"


def _number(value: float, signed: bool) -> str:
    plus = "+" if signed else ""
    return f"{value:{plus}#.3g}" if abs(value) < 100 else f"{value:{plus}.0f}"


def _csv(rows: Sequence[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
