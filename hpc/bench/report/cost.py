"""Cost beside skill: parameters, FLOPs, hours and energy of each model and arm, with one score."""

from collections.abc import Mapping, Sequence

from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.costs import Cost
from polarcast.hpc.bench.layout import heading, interval_text
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.render import cost_grid
from polarcast.hpc.bench.report.parts import Spent
from polarcast.hpc.bench.report.tables import AxisKey, axes_of, bar_of
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.wording import number
from polarcast.hpc.utils.pages.bars import BarScale, number_in
from polarcast.hpc.utils.pages.tables import PageCell, PageColumn, PageFilter, PageRow, number_markup, page_table

_NAME = "cost"


def cost_table(title: str, tables: Mapping[str, ComparisonTable], costs: Sequence[Cost], spent: Sequence[Spent]) -> str:
    """Return the costs of each model and arm, beside the first score of the first table that has it.

    Args:
        title: What the table shows, for screen readers.
        tables: Tables of the suite.
        costs: Parameters and FLOPs.
        spent: Hours and energy.
    """
    skill = _skill(tables)
    first, table = next(iter(skill.values()), (None, None))
    name = heading(parse_score(first.metric), table.protocol) if first and table else ""
    scales = axes_of(table, [record for record, _ in skill.values()]) if table else {}
    used = {(one.model, one.arm): one for one in spent}
    hours = "GPU-hours" if spent and all(one.on_gpu for one in spent if one.hours) else "process-hours"
    grid = cost_grid(costs)
    columns = [
        *(PageColumn(text, is_label=True) for text in grid.head[: grid.labels]), *([PageColumn(name)] if skill else []),
        *([PageColumn(hours), PageColumn("kWh"), PageColumn("runs")] if spent else []),
        *map(PageColumn, grid.head[grid.labels :]),
    ]  # fmt: skip
    rows = []
    for cost, line in zip(costs, grid.lines, strict=True):
        numbers = [PageCell(text, number_in(text)) for text in line[grid.labels :]]
        shown = [_skill_cell(skill.get((cost.model, cost.arm)), scales)] if skill else []
        paid = _spent_cells(used.get((cost.model, cost.arm))) if spent else []
        labels = line[: grid.labels]
        filters = {"model": cost.label, "arm": ARM_NAMES[cost.arm]}
        rows.append(PageRow([*map(PageCell, labels), *shown, *paid, *numbers], filters))
    filters_shown = [PageFilter(k, k, list(dict.fromkeys(r.filters[k] for r in rows))) for k in ("model", "arm")]
    return page_table(_NAME, title, columns, rows, filters_shown)


def _skill(tables: Mapping[str, ComparisonTable]) -> dict[tuple[str, str], tuple[Record, ComparisonTable]]:
    """Return the first score of the first table by model and arm, from all tables, with the table that has it."""
    plain = [(record, table) for table in tables.values() for record in table.records if not record.is_comparison]
    found: dict[tuple[str, str], tuple[Record, ComparisonTable]] = {}
    for record, table in plain:
        if (record.metric, record.aggregation) == (plain[0][0].metric, plain[0][0].aggregation):
            found.setdefault((record.model, record.arm), (record, table))
    return found


def _skill_cell(found: tuple[Record, ComparisonTable] | None, scales: Mapping[AxisKey, BarScale]) -> PageCell:
    if found is None or found[0].value is None:
        return PageCell("")
    record, table = found
    text = f"{number(found[0].value)} {interval_text(record)}".strip()
    return PageCell(text, record.value, number_markup(text, bar_of(record, table, scales)))


def _spent_cells(one: Spent | None) -> list[PageCell]:
    if one is None:
        return [PageCell("")] * 3
    numbers = [PageCell("" if value is None else number(value), value) for value in (one.hours, one.kilowatt_hours)]
    return [*numbers, PageCell(str(one.runs), one.runs)]
