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
    table = Table(title=Text(printable(f"{status.name}: a mark for each seed")), title_justify="left")
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
    return Group(table, Text(legend), Text(headline(status)), *(Text(printable(line)) for line in lines))


def _marks(cells: Sequence[CellStatus]) -> "RenderableType":
    from rich.text import Text

    return Text.assemble(*((MARKS[cell.state], _STYLES.get(cell.state, "")) for cell in cells))


def page(status: SuiteStatus, refresh_seconds: int = 0) -> str:
    """Return the page of a suite's state, which reloads itself every `refresh_seconds`, if that is not 0."""
    from polarcast.hpc.utils.pages.page import render_page

    body = [f"<p>{escape(headline(status))}</p>", _matrix_html(status), _cells_html(status.cells)]
    return render_page(f"{status.name}: cells", body, refresh_seconds=refresh_seconds or None)


def _matrix_html(status: SuiteStatus) -> str:
    arms, rows = matrix(status)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["model", *(ARM_NAMES.get(a, a) for a in arms)])
    lines = [
        f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{_marks_html(some)}</td>" for some in cells)}</tr>'
        for label, cells in rows
    ]
    legend = " ".join(f"{mark} {state}" for state, mark in MARKS.items())
    return (
        f"<h2>Matrix of cells</h2><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        f'<p class="note">A mark for each seed: {legend}</p>'
    )


def _marks_html(cells: Sequence[CellStatus]) -> str:
    return " ".join(
        f'<span title="{escape(f"seed {c.seed}: {c.state} {doing(c)}".strip())}" aria-label="{escape(c.state)}">'
        f"{MARKS[c.state]}</span>"
        for c in cells
    )


def _cells_html(cells: Sequence[CellStatus]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("model", "arm", "seed", "state", "what", "hours"))
    lines = [
        f"<tr><td>{escape(c.label)}</td><td>{escape(ARM_NAMES.get(c.arm, c.arm))}</td><td>{c.seed}</td>"
        f"<td>{MARKS[c.state]} {c.state}</td><td>{escape(doing(c))}</td>"
        f"<td>{'' if c.hours is None else f'{c.hours:.3g}'}</td></tr>"
        for c in cells
    ]
    return (
        '<h2>Cells</h2><table class="data"><thead><tr>' + head + "</tr></thead><tbody>" + "".join(lines)
        + "</tbody></table>"
    )  # fmt: skip
