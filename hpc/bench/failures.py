"""Cells of a suite that failed: why, how often they were tried, and the last lines of their output."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polarcast.data.files import open_regular, read_json, write_json
from polarcast.data.secrets import redacted
from polarcast.hpc.bench.cells import Cell
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.bench.worker import OUTPUT
from polarcast.hpc.utils.text import printable
from polarcast.hpc.zoo.card import without_places

FILE = "failed.json"
_LINES = 12
_LONGEST_LINE = 300
_TAIL_BYTES = 2**16


@dataclass(frozen=True)
class CellFailure:
    """A cell that failed and is not tried again.

    Attributes:
        model, label, arm, seed: The cell.
        reason: Why it failed, in one line.
        attempts: How often it was tried.
        log: Last lines of its output.
        tables: Names of the tables that show its model and arm.
    """

    model: str
    label: str
    arm: str
    seed: int
    reason: str
    attempts: int = 1
    log: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


def write_failure(run: Path, reason: str, attempts: int) -> None:
    """Record in a run folder that its cell failed, with the last lines of its output."""
    line = without_places(" ".join(redacted(reason).split()))  # tables show it, also elsewhere
    record = {"reason": line, "attempts": attempts, "log": last_lines(run / OUTPUT), "time": round(time.time(), 2)}
    write_json(run / FILE, record)


def last_lines(output: Path) -> list[str]:
    """Return the last lines of the output of a cell, without secrets; none if it can't be read."""
    try:
        with open_regular(output) as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = stream.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return []
    lines = [line for line in redacted(text).splitlines() if line.strip()]
    return [printable(line)[:_LONGEST_LINE] for line in lines[-_LINES:]]


def failures_of(suite: Suite, cells: Iterable[Cell], path_of: Callable[[Cell], Path]) -> list[CellFailure]:
    """Return the cells that failed and are not scored since, in the order of the suite."""
    found = []
    for cell in cells:
        record = read_json(path_of(cell) / FILE)
        if record:
            found.append(_failure(suite, cell, record))
    return found


def with_failures(table: ComparisonTable, failures: Sequence[CellFailure]) -> ComparisonTable:
    """Return a table with a note on the cells that failed, and with rows of the models that it lacks because of them.

    Args:
        table: Table of the models that are finished.
        failures: Cells that failed.
    """
    if not failures or not table.records:
        return table
    shown, name = {record.model for record in table.records}, table.records[0].table
    lost = {(f.model, f.arm): f for f in failures if f.model not in shown and name in f.tables}
    metrics = dict.fromkeys(record.metric for record in table.records)
    rows = [_failed_row(table, failure, metric) for failure in lost.values() for metric in metrics]
    note = "; ".join(filter(None, [table.note, failure_note(failures)]))
    return replace(table, records=[*table.records, *rows], note=note)


def failure_note(failures: Sequence[CellFailure]) -> str:
    """Return a note on the cells that failed; empty without any."""
    told = [f"{f.label}, {ARM_NAMES.get(f.arm, f.arm)}, seed {f.seed} ({f.reason})" for f in failures]
    return f"failed: {'; '.join(told)}" if told else ""


def _failed_row(table: ComparisonTable, failure: CellFailure, metric: str) -> Record:
    """Return the record of a score that a failed cell has not got."""
    like = next(record for record in table.records if record.metric == metric)
    return Record(
        table=like.table, model=failure.model, label=failure.label, arm=failure.arm, metric=metric, unit=like.unit,
        value=None, low=None, high=None, events=like.events, support=0, seeds=like.seeds, aggregation=like.aggregation,
        direction=like.direction, perfect=like.perfect, reason=f"failed: {failure.reason}",
    )  # fmt: skip


def _failure(suite: Suite, cell: Cell, record: dict[str, Any]) -> CellFailure:
    """Return a failure from its record, of which any part may be damaged."""
    log, attempts = record.get("log"), record.get("attempts")
    lines = tuple(printable(str(line)) for line in log) if isinstance(log, list) else ()
    reason = printable(str(record.get("reason", "the reason is lost")))
    tried = attempts if isinstance(attempts, int) else 1
    tables = [
        name for name, spec in suite.tables.items()
        if cell.model in suite.shown(spec) and cell.arm in (spec.arms or suite.arms_of(cell.model))
    ]  # fmt: skip
    label = suite.models[cell.model].label
    return CellFailure(cell.model, label, cell.arm, cell.seed, reason, tried, lines, tuple(tables))
