"""Sections made from the records of all tables: power, support, and cells that failed."""

from collections.abc import Mapping, Sequence
from html import escape

from polarcast.hpc.bench.contrasts import ARM_NAMES, arm_name
from polarcast.hpc.bench.failures import CellFailure
from polarcast.hpc.bench.layout import heading
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.report.judgement import judge
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.wording import effect, percent, size
from polarcast.hpc.utils.pages import elements
from polarcast.hpc.utils.pages.tables import PageCell, PageColumn, PageFilter, PageRow, page_table

_LABELS = ("model", "score", "comparison")


def detectable_table(title: str, tables: Mapping[str, ComparisonTable]) -> list[str]:
    """Return the smallest effect that each comparison would detect, beside the measured one; empty without any."""
    found = {
        (r.label, heading(parse_score(r.metric), table.protocol), arm_name(r.arm, table.versus)): (r, table)
        for table in tables.values()
        for r in table.records
        if r.detectable is not None and r.value is not None
    }
    if not found:
        return []
    rows = [PageRow([*map(PageCell, names), *_power_cells(*of)], dict(zip(_LABELS, names, strict=True)))
            for names, of in found.items()]  # fmt: skip
    columns = [
        *(PageColumn(name, is_label=True) for name in _LABELS), PageColumn("detectable with 80% power"),
        PageColumn("measured"), PageColumn("what it shows", is_label=True),
    ]  # fmt: skip
    note = (
        "Smallest true effect that a comparison of as many events and seeds finds with 80% power, from the spread of "
        "these runs. Where none is shown, a smaller effect is not excluded. `polarcast power` plans how many would do."
    )
    return [page_table("power", title, columns, rows, _filters(rows)), elements.notes([note])]


def _power_cells(record: Record, table: ComparisonTable) -> list[PageCell]:
    assert record.detectable is not None
    assert record.value is not None
    return [
        PageCell(size(record.detectable, record.scale), record.detectable),
        PageCell(effect(record.value, record.scale), record.value),
        PageCell(judge(record, table).text),
    ]


def support_table(title: str, tables: Mapping[str, ComparisonTable]) -> str:
    """Return how many events, groups, seeds and pixels stand behind the scores of each table."""
    rows = [row for table in tables.values() for row in _support_rows(table)]
    names = ("events", "events that count, least", "groups", "seeds", "pixels, least", "largest share of one group")
    columns = [PageColumn("table", is_label=True), PageColumn("score", is_label=True), *map(PageColumn, names)]
    return page_table("support", title, columns, rows, _filters(rows))


def _support_rows(table: ComparisonTable) -> list[PageRow]:
    by_score: dict[str, list[Record]] = {}
    for record in table.records:
        by_score.setdefault(heading(parse_score(record.metric), table.protocol), []).append(record)
    return [
        PageRow(
            [PageCell(table.title), PageCell(score), *_support_cells(records)], {"table": table.title, "score": score}
        )
        for score, records in by_score.items()
    ]


def _support_cells(records: Sequence[Record]) -> list[PageCell]:
    seeds = sorted({r.seeds for r in records})
    pixels = [r.pixels for r in records if r.pixels is not None]
    shares = [r.heaviest for r in records if r.heaviest is not None]
    return [
        _counted(max(r.events for r in records)),
        _counted(min(r.support for r in records)),
        _counted(max(r.groups for r in records) or None),
        PageCell("–".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))), seeds[0]),
        _counted(min(pixels, default=None)),
        PageCell(percent(max(shares)), max(shares)) if shares else PageCell(""),
    ]


def _counted(count: float | None) -> PageCell:
    return PageCell("" if count is None else f"{count:,.0f}", count)


def failure_table(title: str, failures: Sequence[CellFailure]) -> str:
    """Return the cells that failed: reason, attempts, and the last lines of their output."""
    names = ("model", "arm", "seed", "attempts", "reason", "last lines")
    columns = [PageColumn(name, is_label=name not in ("seed", "attempts")) for name in names]
    rows = [_failure_row(one) for one in failures]
    return page_table("failures", title, columns, rows, _filters(rows))


def _failure_row(one: CellFailure) -> PageRow:
    arm = ARM_NAMES.get(one.arm, one.arm)
    log = elements.folded_text(f"{len(one.log)} lines", "\n".join(one.log)) if one.log else ""
    counts = [PageCell(str(number), number) for number in (one.seed, one.attempts)]
    reason = PageCell(one.reason, markup=f'<div class="long">{escape(one.reason)}</div>')
    cells = [PageCell(one.label), PageCell(arm), *counts, reason, PageCell("", markup=log)]
    return PageRow(cells, {"model": one.label, "arm": arm})


def _filters(rows: Sequence[PageRow]) -> list[PageFilter]:
    names = list(rows[0].filters) if rows else []
    return [PageFilter(name, name, list(dict.fromkeys(row.filters[name] for row in rows))) for name in names]
