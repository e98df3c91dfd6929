"""A suite that is not run to its end: the part of it that can be told already."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import Cell
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.runs.folder import Output

Outputs = Sequence[tuple[Cell, Output]]


def finished_part(suite: Suite, outputs: Outputs, where: Path) -> tuple[Suite, Outputs, str]:
    """Models with the seeds that are scored on all their arms; a model without any is left out of every table.

    Args:
        suite: As it was asked for.
        outputs: What each cell writes, or has written.
        where: Folder of the suite, for the message.

    Returns:
        The suite and the outputs that remain, and a sentence on what is missing; empty where nothing is.

    Raises:
        BadInput: nothing is finished.
    """
    scored = {(c.model, c.arm, c.seed) for c, output in outputs if output.scores.is_file()}
    asked: dict[str, list[int]] = {}
    for cell, _ in outputs:
        asked.setdefault(cell.model, []).append(cell.seed)
    seeds = {
        model: [s for s in dict.fromkeys(of) if all((model, arm, s) in scored for arm in suite.arms_of(model))]
        for model, of in asked.items()
    }
    for model in list(seeds):
        if (other := suite.models[model].radar_of) is not None:
            seeds[model] = [s for s in seeds[model] if s in seeds[other]]
    if not any(seeds.values()):
        raise BadInput("no model of this suite is scored on all its arms yet", where, "run it without --tables-only")
    kept = [(c, output) for c, output in outputs if c.seed in seeds[c.model]]
    without = [suite.models[model].label for model, of in seeds.items() if not of]
    note = f"the suite is not finished, {len(scored)} of {len(outputs)} runs are" if len(scored) < len(outputs) else ""
    note += f"; not one seed of: {', '.join(without)}" if without else ""
    return _only(suite, {model for model, of in seeds.items() if of}), kept, note


def _only(suite: Suite, models: set[str]) -> Suite:
    """With the tables that still show something."""
    shown = {name: [m for m in suite.shown(table) if m in models] for name, table in suite.tables.items()}
    tables = {name: replace(suite.tables[name], models=of) for name, of in shown.items() if of}
    return replace(suite, models={name: m for name, m in suite.models.items() if name in models}, tables=tables)
