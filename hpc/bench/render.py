"""Records → a table for the terminal, Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polarcast.hpc.bench.table import DIFFERENCE, Record
from polarcast.hpc.files import write_text
from polarcast.hpc.scores.metrics import METRICS

_HEADINGS = {"radar": "radar", "dualpol": "dual-pol", DIFFERENCE: "dual-pol − radar"}


def write_table(folder: Path, title: str, records: Sequence[Record]) -> None:
    """Write `<table>.json`, `.csv` and `.md` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = records[0].table
    rows = [r.as_row() for r in records]
    write_text(folder / f"{stem}.json", json.dumps({"title": title, "records": rows}, indent=1) + "\n")
    write_text(folder / f"{stem}.csv", _csv(rows))
    write_text(folder / f"{stem}.md", markdown(title, records))


def markdown(title: str, records: Sequence[Record]) -> str:
    """The table as Markdown: a line for each model and arm, a column for each metric."""
    metrics = _metrics(records)
    lines = [f"**{title}**", "", "| | | " + " | ".join(map(_heading, metrics)) + " |"]
    lines.append("|---|---|" + "---:|" * len(metrics))
    lines += [f"| {label} | {arm} | " + " | ".join(cells) + " |" for label, arm, cells in _lines(records)]
    return "\n".join([*lines, "", footnote(records), ""])


def terminal_table(title: str, records: Sequence[Record]) -> Table:
    """The table for a terminal; differences whose interval excludes zero are bold."""
    table = Table(title=title, caption=escape(footnote(records)), title_justify="left", caption_justify="left")
    table.add_column("model", max_width=14)
    table.add_column("")
    for metric in _metrics(records):
        table.add_column(escape(_heading(metric).replace(" [", "\n[")), justify="right", no_wrap=True)
    for label, arm, cells in _lines(records, stacked=True):
        last = arm == _HEADINGS[DIFFERENCE]
        table.add_row(label if arm == _HEADINGS["radar"] else "", arm, *map(escape, cells), end_section=last)
    return table


def footnote(records: Sequence[Record]) -> str:
    """What the brackets mean, and on how much they stand."""
    events, seeds = records[0].events, records[0].seeds
    count = f"{events} test event{'s' * (events != 1)} and {seeds} seed{'s' * (seeds != 1)}"
    if events < 2:
        return f"{count}: no interval can be given for a single event."
    return f"[95% interval] of a paired bootstrap over events; {count}; * the interval excludes zero."


def _metrics(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(r.metric for r in records))


def _heading(metric: str) -> str:
    unit = METRICS[metric].unit
    return METRICS[metric].label + (f" [{unit}]" if unit != "1" else "")


def _lines(records: Sequence[Record], stacked: bool = False) -> list[tuple[str, str, list[str]]]:
    """(label, arm, a cell for each metric) of each model and arm."""
    keys = dict.fromkeys((r.model, r.label, r.arm) for r in records)
    return [
        (label, _HEADINGS[arm], [_cell(r, stacked) for r in records if (r.model, r.arm) == (model, arm)])
        for model, label, arm in keys
    ]


def _cell(record: Record, stacked: bool) -> str:
    if record.value is None:
        return "–"
    plus = record.arm == DIFFERENCE
    text = _number(record.value, plus)
    # Only the difference is a comparison; the interval of one arm is in the records.
    if not plus or record.low is None or record.high is None:
        return text
    star = "*" if record.low > 0 or record.high < 0 else ""
    break_ = "\n" if stacked else " "
    return f"{text}{star}{break_}[{_number(record.low, plus)}, {_number(record.high, plus)}]"


def _number(value: float, plus: bool) -> str:
    return f"{value:{'+' if plus else ''}.3g}" if abs(value) < 100 else f"{value:{'+' if plus else ''}.0f}"


def _csv(rows: Sequence[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
