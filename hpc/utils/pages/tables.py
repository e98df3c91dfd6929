"""Tables of a page that sort and filter: markup for `page.js`, readable without it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from polarcast.hpc.utils.pages.bars import BarScale, interval_bar, interval_in, number_in

_WIDE_FROM = 9
"""Columns from which a table is printed on paper in landscape format."""
_SEARCHED_FROM = 8
"""Rows from which a table has a field to search."""


@dataclass(frozen=True)
class PageColumn:
    """A column of a table.

    Attributes:
        name: Heading.
        is_label: Whether its cells are words, aligned to the left.
        groups: Values of the filters that show or hide columns, by name; without one, it is always there.
    """

    name: str
    is_label: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageCell:
    """A cell of a table.

    Attributes:
        text: Text, if there is no markup.
        value: Number to sort by; by default the text is.
        markup: Markup instead of the text, in which texts of others are escaped.
        hint: Longer text that a pointer shows.
    """

    text: str
    value: float | None = None
    markup: str = ""
    hint: str = ""


@dataclass(frozen=True)
class PageRow:
    """A row of a table: its cells, the values of its filters by name, and its class in the style sheet."""

    cells: Sequence[PageCell]
    filters: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True)
class PageFilter:
    """A choice of the values of a row, or of groups of columns.

    Attributes:
        name: Name in the address of the page, and in `PageRow.filters`.
        label: Text beside it.
        options: Values to choose from; one that is empty or alone is no choice.
        columns: Whether it shows groups of columns instead of rows.
    """

    name: str
    label: str
    options: Sequence[str]
    columns: bool = False


def page_table(
    name: str,
    title: str,
    columns: Sequence[PageColumn],
    rows: Sequence[PageRow],
    filters: Sequence[PageFilter] = (),
    *,
    key: str | None = None,
) -> str:
    """Return a table with its filters, and a line that says how many rows are shown.

    Args:
        name: Name of the table in the page.
        title: What it shows, for screen readers.
        columns: Its columns.
        rows: Its rows.
        filters: Choices above it.
        key: Beginning of the names of its filters in the address; by default its name. Tables of one key share their
            order and filters, which `filter_form` shows.
    """
    own = key is None
    start = f"{name}." if key is None else key
    form = filter_form(start, title, filters, is_searched=len(rows) >= _SEARCHED_FROM) if own else ""
    head = "".join(f'<th scope="col"{_label(c.is_label)}{_groups(c)}>{escape(c.name)}</th>' for c in columns)
    body = "\n".join(_row(row, columns) for row in rows)
    wide = " wide" if len(columns) >= _WIDE_FROM else ""
    return (
        f'{form}<div class="scroll{wide}" role="region" aria-label="{escape(title)}" tabindex="0">'
        f'<table class="data" id="{escape(name)}-table" data-key="{escape(start)}" aria-label="{escape(title)}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        f'<p class="count" role="status" data-of="{escape(name)}-table" hidden></p>'
    )


def filter_form(
    key: str,
    title: str,
    filters: Sequence[PageFilter] = (),
    *,
    is_searched: bool = True,
    search: str = "search",
    checkbox: tuple[str, str] | None = None,
) -> str:
    """Return the filters of the tables with a key; empty if there is nothing to choose.

    Args:
        key: Key of the tables.
        title: What is filtered, for screen readers.
        filters: Choices.
        is_searched: Whether there is a field to search.
        search: Text beside that field.
        checkbox: Name and text of a box; if it is checked, only rows with the value 1 of this name are shown.
    """
    parts = [f'<label>{escape(search)} <input type="search" name="text" autocomplete="off"></label>'] * is_searched
    parts += [_select(one) for one in filters if len(one.options) > 1]
    if checkbox:
        parts.append(f'<label><input type="checkbox" name="{escape(checkbox[0])}"> {escape(checkbox[1])}</label>')
    if not parts:
        return ""
    return (
        f'<form class="filters" data-for="{escape(key)}" aria-label="Filters: {escape(title)}" hidden>'
        f'{"".join(parts)}<button type="reset">show all</button></form>'
    )


def text_table(
    name: str, title: str, head: Sequence[str], lines: Iterable[Sequence[str]], labels: int, *, drawn: bool = True
) -> str:
    """Return a table of texts; its labels can be filtered, and intervals in its cells are drawn.

    Args:
        name: Name of the table in the page.
        title: What it shows, for screen readers.
        head: Headings.
        lines: Cells of each row.
        labels: Number of leading columns that are labels.
        drawn: Whether intervals such as `[−0.1, 0.4]` are drawn.
    """
    rows = [list(line) for line in lines]
    scales = _scales(rows, labels) if drawn else {}
    columns = [PageColumn(text, i < labels) for i, text in enumerate(head)]
    shown = []
    for row in rows:
        cells = [
            PageCell(text) if i < labels else _number_cell(row, i, scales.get((i, row[0])))
            for i, text in enumerate(row)
        ]
        shown.append(PageRow(cells, {head[i]: row[i] for i in range(labels)}))
    filters = [
        PageFilter(head[i], head[i], list(dict.fromkeys(row[i] for row in rows))) for i in range(labels)
    ] if len(rows) >= _SEARCHED_FROM else []  # fmt: skip
    return page_table(name, title, columns, shown, filters)


def filter_name(text: str) -> str:
    """Return a heading as the name of a filter: letters and digits in lower case, joined by `_`."""
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split()) or "label"


def number_markup(text: str, bar: str) -> str:
    """Return a number with the drawing of its interval behind it."""
    return f'<span class="num">{escape(text)}</span>{bar}'


def _number_cell(row: Sequence[str], column: int, scale: BarScale | None) -> PageCell:
    text = row[column]
    limits, value = interval_in(text), number_in(text)
    if scale is None or limits is None:
        return PageCell(text, value)
    point = value if value is not None else number_in(row[column - 1])
    bar = interval_bar(point, *limits, scale, limits[0] > 0 or limits[1] < 0)
    return PageCell(text, value if value is not None else limits[0], number_markup(text, bar))


def _scales(rows: Sequence[Sequence[str]], labels: int) -> dict[tuple[int, str], BarScale]:
    """Return the axis of each column and first label, because scores have different units."""
    found: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        for i, text in enumerate(row):
            if i >= labels and (limits := interval_in(text)):
                found.setdefault((i, row[0]), []).extend(limits)
    return {key: BarScale.around(limits, 0.0) for key, limits in found.items()}


def _row(row: PageRow, columns: Sequence[PageColumn]) -> str:
    kind = f' class="{escape(row.kind)}"' if row.kind else ""
    data = "".join(_data(f"is-{filter_name(name)}", value) for name, value in row.filters.items())
    cells = "".join(_cell(cell, column, not i) for i, (cell, column) in enumerate(zip(row.cells, columns, strict=True)))
    return f"<tr{kind}{data}>{cells}</tr>"


def _cell(cell: PageCell, column: PageColumn, is_first: bool) -> str:
    role = ' role="rowheader"' if is_first and column.is_label else ""
    value = "" if cell.value is None else f' data-value="{cell.value:.12g}"'
    hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
    content = cell.markup or escape(cell.text)
    return f"<td{role}{_label(column.is_label)}{_groups(column)}{value}{hint}>{content}</td>"


def _select(one: PageFilter) -> str:
    options = "".join(f"<option>{escape(text)}</option>" for text in one.options)
    columns = " data-columns" if one.columns else ""
    return (
        f'<label>{escape(one.label)} <select name="{filter_name(one.name)}"{columns}>'
        f'<option value="">all</option>{options}</select></label>'
    )


def _label(is_label: bool) -> str:
    return ' class="label"' if is_label else ""


def _groups(column: PageColumn) -> str:
    return "".join(_data(f"in-{filter_name(name)}", value) for name, value in column.groups.items())


def _data(name: str, value: str) -> str:
    return f' data-{name}="{escape(value)}"' if value else ""
