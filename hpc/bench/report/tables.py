"""Tables of scores as markup: as they are laid out everywhere, and all numbers behind them, one a row."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from polarcast.hpc.bench.contrasts import arm_name
from polarcast.hpc.bench.layout import (
    LaidCell,
    LaidGrid,
    dimension_name,
    heading,
    interval_name,
    interval_text,
    lay_out_numbers,
    support_text,
)
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.report.judgement import judge
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.wording import effect, number, percent, size
from polarcast.hpc.utils.pages.bars import BarScale, interval_bar
from polarcast.hpc.utils.pages.tables import PageCell, PageColumn, PageFilter, PageRow, number_markup, page_table

_ABSENT = "–"
SHOWS = "what it shows"
AxisKey = tuple[str, ...]
"""Comparison with its scale, or empty; score; and, of a score itself, its coordinates along the columns."""


def score_table(name: str, table: ComparisonTable) -> str:
    """Return a table as it is laid out in all files, with intervals drawn and what they show in words."""
    grid = lay_out_numbers(table)
    scales = axes_of(table, table.shown)
    labels = len(table.rows)
    dimensions = [dimension_name(d) for d in table.columns]
    columns = [PageColumn(text, is_label=True) for text in grid.head[:labels]]
    columns += [
        PageColumn(text, groups={d: value for d, value in zip(dimensions, key, strict=True) if value})
        for text, key in zip(grid.head[labels:], grid.keys, strict=True)
    ]
    rows = [
        PageRow(
            [*map(PageCell, names), *(_laid_cell(cell, table, scales) for cell in cells)],
            dict(zip(map(dimension_name, table.rows), names, strict=True)),
        )
        for names, cells in grid.rows
    ]
    filters = _row_filters(grid, table) + _column_filters(grid, dimensions)
    return page_table(name, table.title, columns, rows, filters)


def all_numbers(name: str, table: ComparisonTable) -> str:
    """Return every number of a table, one a row, with its interval, tests and support."""
    scales = axes_of(table, table.records)
    labels = ("model", "score", "arm or comparison")
    names = (
        "value", interval_name(table), SHOWS, "p, Holm", "p, sign flips", "events better",
        "detectable, 80% power", "events", "groups", "seeds", "pixels", "largest share",
    )  # fmt: skip
    columns = [PageColumn(text, is_label=text in (*labels, SHOWS)) for text in (*labels, *names)]
    rows = [_record_row(record, table, scales) for record in table.records]
    filters = [
        PageFilter(key, label, _values(row.filters[key] for row in rows))
        for key, label in zip(("model", "score", "arm", "shows"), (*labels, SHOWS), strict=True)
    ]
    return page_table(f"{name}-all", f"All numbers: {table.title}", columns, rows, filters)


def axes_of(table: ComparisonTable, records: Iterable[Record]) -> dict[AxisKey, BarScale]:
    """Return the axis of interval bars for each score and comparison; comparisons have a line at no effect."""
    found: dict[AxisKey, list[float | None]] = {}
    for record in records:
        found.setdefault(_axis_key(record, table), []).extend((record.low, record.value, record.high))
    return {key: BarScale.around(values, 0.0 if key[0] else None) for key, values in found.items()}


def bar_of(record: Record, table: ComparisonTable, scales: Mapping[AxisKey, BarScale]) -> str:
    """Return the drawing of a number's interval."""
    is_shown = record.is_significant if record.is_comparison else None
    return interval_bar(record.value, record.low, record.high, scales[_axis_key(record, table)], is_shown)


def _axis_key(record: Record, table: ComparisonTable) -> AxisKey:
    score = parse_score(record.metric)
    if record.is_comparison:
        return record.arm + record.scale, score.name
    return "", score.name, *(str(score.at[axis]) for axis in table.columns if axis in score.at)


def _laid_cell(cell: LaidCell, table: ComparisonTable, scales: Mapping[AxisKey, BarScale]) -> PageCell:
    record = cell.record
    if record is None:
        return PageCell(cell.text)
    if not cell.has_interval or record.low is None:
        return PageCell(cell.text, record.value)
    markup = number_markup(cell.text, bar_of(record, table, scales))
    if record.is_comparison:
        shows = judge(record, table)
        markup = (
            f'<span class="{shows.kind or "unclear"}">{markup}<span class="mark">{escape(shows.text)}</span></span>'
        )
    return PageCell(cell.text, record.value, markup, _hint(record))


def _hint(record: Record) -> str:
    parts = [f"{support_text(record)} events", f"{record.seeds} seed{'s' * (record.seeds != 1)}"]
    parts += [f"p after Holm {record.p_holm:.3g}"] if record.p_holm is not None else []
    return ", ".join(parts)


def _record_row(record: Record, table: ComparisonTable, scales: Mapping[AxisKey, BarScale]) -> PageRow:
    arm, score = arm_name(record.arm, table.versus), heading(parse_score(record.metric), table.protocol)
    judged = judge(record, table) if record.is_comparison else None
    shows = judged.text if judged else ""
    labels = [PageCell(record.label), PageCell(score), PageCell(arm)]
    limits = interval_text(record)
    cells = [
        PageCell(_value_text(record), record.value),
        PageCell(limits or _ABSENT, record.low, number_markup(limits, bar_of(record, table, scales)) if limits else ""),
        PageCell(shows, hint=record.reason),
        *(_optional(p, "{:.3g}") for p in (record.p_holm, record.sign_flip)),
        PageCell("" if record.improved is None else percent(record.improved), record.improved),
        PageCell("" if record.detectable is None else size(record.detectable, record.scale), record.detectable),
        PageCell(support_text(record), record.support),
        PageCell(str(record.groups or ""), record.groups or None),
        PageCell(str(record.seeds), record.seeds),
        _optional(record.pixels, "{:,.0f}"),
        PageCell("" if record.heaviest is None else percent(record.heaviest), record.heaviest),
    ]
    return PageRow(
        [*labels, *cells],
        {"model": record.label, "score": score, "arm": arm, "shows": shows},
        judged.kind if judged else "",
    )


def _value_text(record: Record) -> str:
    if record.value is None:
        return _ABSENT
    return effect(record.value, record.scale) if record.is_comparison else number(record.value)


def _optional(value: float | None, form: str) -> PageCell:
    return PageCell("" if value is None else form.format(value), value)


def _row_filters(grid: LaidGrid, table: ComparisonTable) -> list[PageFilter]:
    names = [dimension_name(dimension) for dimension in table.rows]
    return [PageFilter(name, name, _values(row[i] for row, _ in grid.rows)) for i, name in enumerate(names)]


def _column_filters(grid: LaidGrid, dimensions: Sequence[str]) -> list[PageFilter]:
    return [
        PageFilter(name, f"show columns of {name}", _values(key[i] for key in grid.keys if key[i]), columns=True)
        for i, name in enumerate(dimensions)
    ]


def _values(found: Iterable[str]) -> list[str]:
    return [value for value in dict.fromkeys(found) if value]
