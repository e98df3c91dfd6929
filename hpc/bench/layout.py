"""Which record stands in which cell: rows and columns of a table from the dimensions it names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polarcast.hpc.bench.table import ARM_NAMES, DIFFERENCE, ComparisonTable, Record
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.score import Score, coordinate_label, parse_score

INTERVAL = "95% interval"
Key = tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table as text: heads, lines, and how many of the first columns are labels."""

    head: list[str]
    lines: list[list[str]]
    labels: int


def lay_out(table: ComparisonTable) -> Grid:
    """Rows and columns by the table's dimensions: model, metric, arm, and any axis of the scores.

    Where `arm` is the last dimension of the columns, the interval of the difference (or of the only arm) stands beside.
    """
    keys = [_keys(record, table) for record in table.records]
    rows = list(dict.fromkeys(row for row, _ in keys))
    columns = list(dict.fromkeys(column for _, column in keys))
    cells = dict(zip(keys, table.records, strict=True))
    with_interval = table.columns[-1] == "arm"
    shown = list(_with_intervals(columns)) if with_interval else [(c, _value) for c in columns]
    heads = [_head(column, of is _interval) for column, of in shown]
    lines = [[*row, *(of(cells[row, c]) if (row, c) in cells else "" for c, of in shown)] for row in rows]
    return Grid([*map(_dimension_name, table.rows), *heads], lines, len(table.rows))


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
