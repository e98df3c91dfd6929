"""Select the finished part of a suite, for tables of a suite that is still running, or whose records are damaged."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import Cell
from polarcast.hpc.bench.suite import Suite, part_of, without_lost_reference
from polarcast.hpc.runs.folder import Output
from polarcast.hpc.scores.records import read_records

SCORES = "scores.parquet"
Outputs = Sequence[tuple[Cell, Output]]


def is_scored(output: Output) -> bool:
    """Return whether the score records of a run exist and are not damaged."""
    try:
        read_records(output.scores)
    except Exception:  # any damage means that the run is scored again
        return False
    return True


def finished_part(suite: Suite, outputs: Outputs, where: Path) -> tuple[Suite, Outputs, str]:
    """Keep the seeds of each model that are scored on all its arms; leave out models without such a seed.

    Args:
        suite: Suite as requested.
        outputs: Output files of each cell, whether they exist or not.
        where: Folder of the suite, for the error message.

    Returns:
        The remaining suite, the remaining outputs, and a note on what is missing; a complete suite as it is, with an
        empty note.

    Raises:
        BadInput: no model is finished.
    """
    scored = {c.key for c, output in outputs if is_scored(output)}
    if len(scored) == len(outputs):
        return suite, outputs, ""
    damaged = [o for c, o in outputs if c.key not in scored and os.path.lexists(o.scores)]
    requested: dict[str, list[int]] = {}
    for cell, _ in outputs:
        requested.setdefault(cell.model, []).append(cell.seed)
    seeds = {
        model: [s for s in dict.fromkeys(wanted) if all((model, arm, s) in scored for arm in suite.arms_of(model))]
        for model, wanted in requested.items()
    }
    for model in list(seeds):
        if (other := suite.models[model].radar_of) is not None and not seeds[other]:
            seeds[model] = []
    if not any(seeds.values()):
        what = "no model of this suite is scored on all its arms yet"
        what += f"; damaged: {', '.join(str(o.scores) for o in damaged)}" if damaged else ""
        raise BadInput(what, where, "run it without --tables-only")
    kept = [(c, output) for c, output in outputs if c.seed in seeds[c.model]]
    without = [suite.models[model].label for model, finished in seeds.items() if not finished]
    note = f"unfinished suite, {len(scored)} of {len(outputs)} runs are scored" if len(scored) < len(outputs) else ""
    note += f"; left out, without a complete seed: {', '.join(without)}" if without else ""
    note += f"; {SCORES} is damaged: {', '.join(o.scores.parent.name for o in damaged)}" if damaged else ""
    return _keep_models(suite, {model for model, finished in seeds.items() if finished}), kept, note


def _keep_models(suite: Suite, models: set[str]) -> Suite:
    """Return the suite with these models only, and the tables that still show any."""
    shown = {name: [m for m in suite.shown(table) if m in models] for name, table in suite.tables.items()}
    tables = {name: replace(suite.tables[name], models=names) for name, names in shown.items() if names}
    tables = {name: without_lost_reference(table, models) for name, table in tables.items()}
    return part_of(suite, models, tables)
