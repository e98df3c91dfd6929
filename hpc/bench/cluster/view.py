"""Show the state of a suite: in a terminal, and as a page."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from polarcast.hpc.bench.cluster.status import (
    DONE,
    FAILED,
    OPEN,
    RUNNING,
    STATES,
    STOPPED,
    WAITING,
    CellStatus,
    SuiteStatus,
)
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.utils.pages.elements import notes, section, verdict
from polarcast.hpc.utils.pages.page import render_page
from polarcast.hpc.utils.pages.tables import PageCell, PageColumn, PageFilter, PageRow, page_table
from polarcast.hpc.utils.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKS = {DONE: "✓", RUNNING: "▶", WAITING: "·", FAILED: "✗", STOPPED: "‖", OPEN: "–"}
"""Mark of each state in the matrix; never told by color alone."""
_STYLES = {DONE: "green", RUNNING: "cyan", FAILED: "bold red", STOPPED: "yellow"}
_MOST_LINES = 20


def headline(status: SuiteStatus) -> str:
    """Return one line: how many cells are in each state, and the hours spent and to come."""
    counts = ", ".join(f"{n} {state}" for state in STATES if (n := status.count(state)))
    unit = "GPU-hours" if status.on_gpus else "process-hours"
    left = f", about {status.hours_left:.3g} to come" if status.hours_left else ""
    parts = [f"{len(status.cells)} cells: {counts}", f"{status.hours:.3g} {unit} of training{left}"]
    parts += [f"job {name}: {state}" for name, state in status.stages.items()]
    parts += [] if status.is_answered else ["the Slurm controller does not answer"]
    parts += [status.problem] if status.problem else []
    return "; ".join(parts)


def matrix(status: SuiteStatus) -> tuple[list[str], list[tuple[str, list[list[CellStatus]]]]]:
    """Return the arms, and for each model its label and the cells of each arm, seed by seed."""
    arms = list(dict.fromkeys(cell.arm for cell in status.cells))
    models = dict.fromkeys((cell.model, cell.label) for cell in status.cells)
    rows = [(label, [[c for c in status.cells if (c.model, c.arm) == (model, arm)] for arm in arms])
            for model, label in models]  # fmt: skip
    return arms, rows


def doing(cell: CellStatus) -> str:
    """Return what a cell does, such as `step 120 of 500, loss 0.0312, 4 min left`."""
    parts = []
    if cell.steps and cell.state in (RUNNING, STOPPED) and cell.stage != "evaluate":
        parts.append(f"step {cell.step} of {cell.steps}")
    parts += [f"loss {cell.loss:.4g}"] if cell.loss is not None and cell.state == RUNNING else []
    parts += [f"{_duration(cell.seconds_left)} left"] if cell.seconds_left and cell.state == RUNNING else []
    parts += [f"started {cell.starts} times"] if cell.starts > 1 else []
    parts += [cell.note] if cell.note else []
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def name_of_cell(cell: CellStatus) -> str:
    """Return model, arm and seed of a cell in words."""
    return f"{cell.label}, {ARM_NAMES.get(cell.arm, cell.arm)}, seed {cell.seed}"


def terminal(status: SuiteStatus) -> "RenderableType":
    """Return the matrix of cells, and a line for each that runs, failed, stopped or waits for a reason."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    arms, rows = matrix(status)
    title, table = Text(printable(f"{status.name}: a mark for each seed")), Table()
    table.add_column("model")
    for arm in arms:
        table.add_column(ARM_NAMES.get(arm, arm))
    for label, cells in rows:
        table.add_row(Text(printable(label)), *map(_marks, cells))
    legend = "  ".join(f"{mark} {state}" for state, mark in MARKS.items() if status.count(state))
    told = [cell for cell in status.cells if cell.state not in (DONE, OPEN) and doing(cell)]
    told.sort(key=lambda cell: STATES.index(cell.state) if cell.state != FAILED else -1)
    lines = [f"{MARKS[c.state]} {name_of_cell(c)}: {doing(c)}" for c in told[:_MOST_LINES]]
    lines += [f"… and {len(told) - _MOST_LINES} more"] if len(told) > _MOST_LINES else []
    return Group(title, table, Text(legend), Text(headline(status)), *(Text(printable(line)) for line in lines))


def _marks(cells: Sequence[CellStatus]) -> "RenderableType":
    from rich.text import Text

    return Text.assemble(*((MARKS[cell.state], _STYLES.get(cell.state, "")) for cell in cells))


def page(status: SuiteStatus, refresh_seconds: int = 0) -> str:
    """Return the page of a suite's state, which reloads itself every `refresh_seconds`, if that is not 0."""
    legend = "  ".join(f"{mark} {state}" for state, mark in MARKS.items())
    failed = [f"{name_of_cell(c)}: {doing(c)}" for c in status.cells if c.state == FAILED]
    parts = [
        *verdict("State", [headline(status)]),
        *section("matrix", "Matrix of cells", [_matrix_table(status), notes([f"A mark for each seed: {legend}"])]),
        *(section("failed", "Failed", [notes(failed)]) if failed else []),
        *section("cells", "Cells", [_cells_table(status.cells)]),
    ]
    return render_page(f"{status.name}: cells", parts, refresh_seconds=refresh_seconds or None)


def _matrix_table(status: SuiteStatus) -> str:
    arms, rows = matrix(status)
    columns = [PageColumn(name, is_label=True) for name in ("model", *(ARM_NAMES.get(arm, arm) for arm in arms))]
    lines = [PageRow([PageCell(label), *map(_marks_cell, cells)]) for label, cells in rows]
    return page_table("matrix-of-cells", "State of each cell by model and arm", columns, lines)


def _marks_cell(cells: Sequence[CellStatus]) -> PageCell:
    told = "; ".join(f"seed {c.seed}: {c.state} {doing(c)}".strip() for c in cells)
    marks = "".join(
        f'<span role="img" aria-label="{escape(f"seed {c.seed}: {c.state}")}">{MARKS[c.state]}</span> ' for c in cells
    )
    return PageCell("", sum(STATES.index(c.state) for c in cells), marks.strip(), told)


def _cells_table(cells: Sequence[CellStatus]) -> str:
    """Return a row for each cell, to be sorted and filtered."""
    names = ("model", "arm", "seed", "state", "what it does", "hours")
    columns = [PageColumn(name, is_label=name not in ("seed", "hours")) for name in names]
    options = {
        "model": [c.label for c in cells], "arm": [ARM_NAMES.get(c.arm, c.arm) for c in cells],
        "state": [c.state for c in cells],
    }  # fmt: skip
    filters = [PageFilter(name, name, list(dict.fromkeys(values))) for name, values in options.items()]
    rows = [_cell_row(cell) for cell in cells]
    return page_table("all-cells", "Cells of the suite", columns, rows, filters)


def _cell_row(cell: CellStatus) -> PageRow:
    arm = ARM_NAMES.get(cell.arm, cell.arm)
    hours = PageCell("" if cell.hours is None else f"{cell.hours:.3g}", cell.hours)
    state = PageCell(f"{MARKS[cell.state]} {cell.state}", STATES.index(cell.state))
    texts = [
        PageCell(cell.label),
        PageCell(arm),
        PageCell(str(cell.seed), cell.seed),
        state,
        PageCell(doing(cell)),
        hours,
    ]
    return PageRow(texts, {"model": cell.label, "arm": arm, "state": cell.state})
