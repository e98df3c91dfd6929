"""Lay out tables of scores as text: rows, columns, and cells with their marks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polarcast.hpc.bench.contrasts import arm_name, arm_rank
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, coordinate_label, parse_score
from polarcast.hpc.scores.stats.paired import GAIN, RATIO
from polarcast.hpc.scores.wording import arrow, effect, number

INTERVAL, EVENTS_INTERVAL = "95% interval", "events' interval"
SUPPORT = "events"
HEAVY_MARK = "†"
_ABSENT = "–"
_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Key = tuple[str, ...]
Cell = Callable[["_Row", Key], str]
"""Function of a row and a column that returns the text of a cell."""


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


@dataclass(frozen=True)
class LaidCell:
    """A cell that is not a label, with the number that it shows.

    Attributes:
        text: Its text.
        record: The number; None for a cell without one, and for a count of events.
        has_interval: Whether the text is, or ends with, the interval.
    """

    text: str
    record: Record | None
    has_interval: bool = False


@dataclass(frozen=True)
class LaidGrid:
    """A table as text and numbers.

    Attributes:
        head: Headings of the labels, then of the cells.
        keys: Position of each column of cells along the dimensions of the columns.
        rows: Labels and cells of each row.
    """

    head: list[str]
    keys: list[Key]
    rows: list[tuple[Key, list[LaidCell]]]


@dataclass(frozen=True)
class _Row:
    """Records of a row by column, and the numbers of the table's reasons."""

    records: Mapping[Key, Record]
    reasons: Sequence[str]


def lay_out(table: ComparisonTable) -> TableLayout:
    """Lay out a table by its dimensions: model, metric, arm, and any axis of the scores.

    If `arm` is the last dimension of the columns, each comparison (or the only arm) is followed by its interval, and a
    column shows the number of events that contribute where those are not all. Otherwise, and where a single comparison
    is all that is shown, cells hold all three.
    """
    grid = lay_out_numbers(table)
    lines = [[*labels, *(cell.text for cell in cells)] for labels, cells in grid.rows]
    return TableLayout(grid.head, lines, len(table.rows))


def lay_out_numbers(table: ComparisonTable) -> LaidGrid:
    """Lay out a table as `lay_out`, and return the number of each cell with its text."""
    shown = table.shown
    keys = [_keys(record, table) for record in shown]
    rows: dict[Key, dict[Key, Record]] = {}
    for (row, column), record in zip(keys, shown, strict=True):
        rows.setdefault(row, {})[column] = record
    columns = list(dict.fromkeys(column for _, column in keys))
    heads, cells = _columns(table, columns, list(rows.values()))
    reasons = reasons_of(table)
    lines = [(row, [_laid(_Row(records, reasons), key, cell) for key, cell in cells]) for row, records in rows.items()]
    return LaidGrid([*map(dimension_name, table.rows), *heads], [key for key, _ in cells], lines)


def _laid(row: _Row, column: Key, cell: Cell) -> LaidCell:
    record = None if cell is _support_cell else row.records.get(column)
    return LaidCell(cell(row, column), record, cell in (_interval_cell, _whole_cell))


def interval_name(table: ComparisonTable) -> str:
    """Return the heading of intervals: of those that leave out the variation between training runs, another one."""
    return EVENTS_INTERVAL if any(record.lacks_seeds for record in table.records) else INTERVAL


def reasons_of(table: ComparisonTable) -> list[str]:
    """Return the reasons for undefined values and intervals, each once, as they are numbered in the cells."""
    return list(dict.fromkeys(record.reason for record in table.records if record.reason))


def _columns(
    table: ComparisonTable, columns: Sequence[Key], rows: Sequence[Mapping[Key, Record]]
) -> tuple[list[str], list[tuple[Key, Cell]]]:
    """Return headings, and for each column of text its key and the function that writes its cells."""
    if table.columns[-1] != "arm" or table.only_comparison:
        return [_head(column) for column in columns], [(column, _whole_cell) for column in columns]
    heads: list[str] = []
    cells: list[tuple[Key, Cell]] = []
    for group in dict.fromkeys(column[:-1] for column in columns):
        arms = _arms_of(group, rows)
        for name, key, cell in _group(table, group, arms, rows):
            heads.append(_head((*group, name)))
            cells.append((key, cell))
    return heads, cells


def _arms_of(group: Key, rows: Sequence[Mapping[Key, Record]]) -> dict[str, Key]:
    """Return the columns of a group by arm, in the order of arms."""
    found = {r.arm: column for records in rows for column, r in records.items() if column[:-1] == group}
    return {arm: found[arm] for arm in sorted(found, key=arm_rank)}


def _group(
    table: ComparisonTable, group: Key, arms: Mapping[str, Key], rows: Sequence[Mapping[Key, Record]]
) -> list[tuple[str, Key, Cell]]:
    """Return name, key and cell function of each column of a group that differs in the arm only."""
    of_group = [r for records in rows for column, r in records.items() if column[:-1] == group]
    has_comparison = any(r.is_comparison for r in of_group)
    comparisons = {r.arm for r in of_group if r.is_comparison}
    found: list[tuple[str, Key, Cell]] = []
    for arm, key in arms.items():
        found.append((key[-1], key, _value_cell))
        if arm in comparisons or (not has_comparison and arm == list(arms)[-1]):
            found.append((interval_name(table), key, _interval_cell))
    if any(r.support < r.events for r in of_group):
        found.append((SUPPORT, (*group, ""), _support_cell))
    return found


def _head(column: Key) -> str:
    return ", ".join(part for part in column if part)


def _keys(record: Record, table: ComparisonTable) -> tuple[Key, Key]:
    score = parse_score(record.metric)
    apart = [*table.rows, *table.columns]
    return (
        tuple(_text(d, record, score, table, apart) for d in table.rows),
        tuple(_text(d, record, score, table, apart) for d in table.columns),
    )


def _text(dimension: str, record: Record, score: Score, table: ComparisonTable, apart: Sequence[str]) -> str:
    if dimension == "model":
        return record.label
    if dimension == "arm":
        return "" if table.only_comparison else arm_name(record.arm, table.versus)
    if dimension == "metric":
        return _change(record, score, table, apart) if table.only_comparison else heading(score, table.protocol, apart)
    return coordinate_label(dimension, score.at[dimension], table.protocol) if dimension in score.at else "all"


def heading(score: Score, protocol: Protocol, without: Sequence[str] = ()) -> str:
    """Return the name of a score in tables, with its unit and a mark of the better values."""
    return f"{score.heading(protocol, without=without)} {arrow(score.metric)}".rstrip()


def _change(record: Record, score: Score, table: ComparisonTable, apart: Sequence[str]) -> str:
    """Return the name of the change of a score, such as `ΔCSI ↑`, `MSE gain [(mm/h)²] ↑` or `RMSE ↓`, a ratio."""
    name = score.heading(table.protocol, without=apart)
    if record.scale == GAIN:
        label = score.metric.label
        return f"{name.replace(label, f'{label} gain', 1)} ↑"
    name = name.split(" [")[0] if record.scale == RATIO else f"Δ{name}"
    return f"{name} {arrow(score.metric)}".rstrip()


def dimension_name(dimension: str) -> str:
    """Return the heading of a dimension of a table."""
    return {"metric": "score", "lead_time": "lead time"}.get(dimension, dimension)


def _value_cell(row: _Row, column: Key) -> str:
    record = row.records.get(column)
    return "" if record is None else _value(record) if record.value is not None else _absent(record, row.reasons)


def _interval_cell(row: _Row, column: Key) -> str:
    record = row.records.get(column)
    return "" if record is None else interval_text(record) or _absent(record, row.reasons)


def _support_cell(row: _Row, column: Key) -> str:
    """Return the events that contribute to the comparison of a row, or in its arms."""
    found = [r for key, r in row.records.items() if key[:-1] == column[:-1]]
    return support_text(min(found, key=lambda r: r.support)) if found else ""


def _whole_cell(row: _Row, column: Key) -> str:
    record = row.records.get(column)
    if record is None:
        return ""
    if record.value is None:
        return _absent(record, row.reasons)
    support = f"({support_text(record)} events)" if record.support < record.events else ""
    limits = interval_text(record) or (_absent(record, row.reasons) if record.reason else "")
    return " ".join(filter(None, [_value(record), limits, support]))


def _absent(record: Record, reasons: Sequence[str]) -> str:
    return _ABSENT + (str(1 + reasons.index(record.reason)).translate(_DIGITS) if record.reason else "")


def _value(record: Record) -> str:
    assert record.value is not None
    stars = ""
    if record.is_comparison and record.is_significant:
        stars = "**" if record.p_holm is not None and record.p_holm < 0.05 else "*"
    shown = effect(record.value, record.scale) if record.is_comparison else number(record.value)
    return shown + stars + (HEAVY_MARK if record.is_heavy else "")


def interval_text(record: Record) -> str:
    """Return the interval of a record, such as `[−38%, −23%]`; empty without one."""
    if record.low is None or record.high is None:
        return ""
    low, high = ((effect(x, record.scale) if record.is_comparison else number(x)) for x in (record.low, record.high))
    return f"[{low}, {high}]"


def support_text(record: Record) -> str:
    """Return the number of events that contribute, such as `22 of 60`."""
    return f"{record.support} of {record.events}" if record.support < record.events else f"{record.events}"
