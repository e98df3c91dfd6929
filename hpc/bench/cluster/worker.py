"""Work of the jobs of a suite: make its data, run the cells of one element, write its tables."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.files import has_writer, sole_writer
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.bench.cells import Cell, CellKey, SuiteFolder, cells_of, check_cells
from polarcast.hpc.bench.checks import known_of
from polarcast.hpc.bench.cluster.attempts import (
    AttemptRecorder,
    attempts_at,
    give_up,
    has_failed,
    starts_of,
    was_killed,
)
from polarcast.hpc.bench.cluster.claims import claim_of, claimed
from polarcast.hpc.bench.cluster.plan import JobPlan
from polarcast.hpc.bench.data import prepare_data
from polarcast.hpc.bench.failures import write_failure
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.run import Tables, analysed_tables, default_workers, located, run_cells, start_cell
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.bench.unfinished import is_scored
from polarcast.hpc.bench.worker import Reporter
from polarcast.hpc.distributed.process_group import gather, join
from polarcast.hpc.distributed.world import World, detect
from polarcast.hpc.utils.progress import ProgressBoard

_POLL_SECONDS = 2.0
_log = logging.getLogger("polarcast")


@dataclass(frozen=True)
class OpenedSuite:
    """A suite that jobs work on: as it was saved, with its folder and cells.

    Attributes:
        suite: The suite.
        folder: Its folder.
        cells: Its cells by key.
    """

    suite: Suite
    folder: SuiteFolder
    cells: dict[CellKey, Cell]

    @property
    def manifest(self) -> Manifest:
        """Manifest of the shards. Raises BadInput if they are not made."""
        return read_manifest(self.folder.shards)

    def some(self, keys: Sequence[CellKey]) -> list[Cell]:
        """Return cells by their keys; those that the suite no longer has are left out."""
        return [self.cells[key] for key in keys if key in self.cells]


def open_suite(path: Path) -> OpenedSuite:
    """Open the suite that was saved in a folder. Raises BadInput if there is none."""
    suite = saved_suite(path)
    folder = SuiteFolder(path, suite.data)
    return OpenedSuite(suite, folder, {cell.key: cell for cell in cells_of(suite, folder.shards)})


def make_data(path: Path, board: ProgressBoard) -> Manifest:
    """Make the shards of a suite, unless they are there; wait for another process that makes them.

    Raises:
        BadInput: the data can't be made, or the cells can't be trained on them.
        WorkFailed: the network was lost.
    """
    opened = open_suite(path)
    folder, spec = opened.folder, opened.suite.data
    with claimed([claim_of(folder.path, "data")]):
        manifest = prepare_data(spec, folder.archive, folder.shards, usable_cores(), board, folder.raw)
    check_cells(opened.suite, list(opened.cells.values()), known_of(manifest))
    return manifest


def run_element(path: Path, plan: JobPlan, array: str, element: int, board: ProgressBoard) -> list[Path]:
    """Train and score the cells of one element of an array; complete ones are not run again.

    A cell that fails is tried once more; then the failure is recorded in its folder. Cells that another process runs
    are waited for.

    Args:
        path: Folder of the suite.
        plan: Plan of its jobs.
        array: Name of the array.
        element: Index of the element.
        board: Progress board.

    Returns:
        Run folders of the cells that have failed.

    Raises:
        Stopped: the job was asked to stop; its cells saved their progress.
        BadInput: the shards are missing, or there is no such element.
    """
    opened, found = open_suite(path), plan.array(array)
    if not 0 <= element < len(found.elements):
        raise BadInput(f"no element {element}", array, f"give 0 to {len(found.elements) - 1}")
    manifest, cells = opened.manifest, opened.some(found.elements[element])
    cells = [_staged(cell, plan) for cell in cells]
    paths = [opened.folder.cell(cell, manifest).path for cell in cells]
    if found.nodes:
        return [path for cell in cells for path in _run_spread(cell, opened, manifest)]
    _wait_for_local(path)
    with claimed([claim_of(path, run.name) for run in paths]):
        while todo := [cell for cell in cells if _is_to_do(cell, opened, manifest)]:
            _try_once(todo, opened, manifest, plan.together, board)
    return [path for path in paths if has_failed(path)]


def _try_once(
    todo: Sequence[Cell], opened: OpenedSuite, manifest: Manifest, together: bool, board: ProgressBoard
) -> None:  # fmt: skip
    """Run cells; record those that have failed for good. Raises the error of cells that could not even be started."""
    runs = [opened.folder.cell(cell, manifest) for cell in todo]
    before = sum(starts_of(run.path) for run in runs)
    try:
        run_cells(todo, opened.folder, manifest, default_workers(todo), board, together, AttemptRecorder())
    except (BadInput, WorkFailed) as error:
        if sum(starts_of(run.path) for run in runs) == before:
            raise
        _log.warning("polarcast: %s", error)
    for run in runs:
        if not is_scored(run.output):
            give_up(run.path)


def _staged(cell: Cell, plan: JobPlan) -> Cell:
    """Return the cell with its shards copied to the node-local disk of the cluster, if there is one."""
    scratch = plan.profile.get("scratch")
    if not scratch or cell.config.data.stage_to:
        return cell
    return replace(cell, config=replace(cell.config, data=replace(cell.config.data, stage_to=str(scratch))))


def _is_to_do(cell: Cell, opened: OpenedSuite, manifest: Manifest) -> bool:
    """Whether a cell is to be run: it is not scored, has not failed, and what it builds on is trained."""
    run = opened.folder.cell(cell, manifest)
    if is_scored(run.output) or has_failed(run.path):
        return False
    for need in cell.needs:
        base = opened.folder.cell(need, manifest)
        if has_failed(base.path):
            run.path.mkdir(parents=True, exist_ok=True)
            write_failure(run.path, f"{base.path.name}, which it builds on, failed", 0)
            return False
        if not base.is_trained:
            _log.warning("polarcast: %s waits for %s, which is not trained", run.path.name, base.path.name)
            return False
    return True


def _run_spread(cell: Cell, opened: OpenedSuite, manifest: Manifest) -> list[Path]:
    """Train and score a cell on all processes of a job of several nodes; return its folder if it failed for good."""
    from polarcast.hpc.evaluation.evaluate import evaluate
    from polarcast.hpc.training.train import train

    world, run = detect(), opened.folder.cell(cell, manifest)
    claim = [claim_of(opened.folder.path, run.path.name)] if world.is_first else []
    with claimed(claim):
        join(world)
        if not gather(_is_to_do(cell, opened, manifest) if world.is_first else None, world)[0]:
            return [run.path] if world.is_first and has_failed(run.path) else []
        recorder, report = AttemptRecorder(), Reporter(run.path)
        if world.is_first:
            start_cell(run, located(cell, opened.folder, manifest))
            recorder.started(run.path)
        _in_step(world)
        with sole_writer(run.path, world.is_first):
            try:
                train(run.config(), run, world, lambda done, total, loss: report("train", done, total))
                evaluate(run, manifest, run.output, world=world)
            except (BadInput, WorkFailed):
                if world.is_first:
                    recorder.ended(run.path, 1)
                    give_up(run.path)
                raise
            if world.is_first:
                recorder.ended(run.path, 0)
    return []


def _in_step(world: World) -> None:
    """Wait for rank 0, which writes the configuration that all ranks read."""
    gather(None, world)


def _wait_for_local(path: Path) -> None:
    """Wait while `polarcast bench` runs the suite without the cluster."""
    while has_writer(path):
        time.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Finished:
    """What the last job of a plan has found.

    Attributes:
        tables: Tables of the finished part; empty if no model is finished.
        again: Cells that were killed with their jobs, and those that build on them, to be submitted again.
        failed: Run folders of the cells that failed.
    """

    tables: Tables
    again: list[Cell]
    failed: list[Path]


def finish(path: Path, plan: JobPlan, board: ProgressBoard) -> Finished:
    """Write the tables, figures, analyses and report of a suite whose jobs have ended.

    Raises:
        BadInput: the shards were not made.
    """
    opened = open_suite(path)
    try:
        manifest = opened.manifest
    except BadInput:
        raise WorkFailed(
            f"the data of the suite were not made — see the log of the job data, plan {plan.key}"
        ) from None
    again = _again(opened, manifest, plan)
    failed = [p for cell in opened.cells.values() if has_failed(p := opened.folder.cell(cell, manifest).path)]
    with claimed([claim_of(path, "tables")]):
        try:
            tables = analysed_tables(opened.suite, opened.folder, usable_cores(), board)
        except BadInput as error:
            if not again and not failed:
                raise
            _log.warning("polarcast: no tables yet: %s", error)
            tables = {}
    return Finished(tables, again, failed)


def _again(opened: OpenedSuite, manifest: Manifest, plan: JobPlan) -> list[Cell]:
    """Return the cells of a plan that were killed, unless they failed thereby, and those that wait for one of them."""
    found: list[Cell] = []
    for cell in opened.some(plan.cells):
        run = opened.folder.cell(cell, manifest)
        if is_scored(run.output) or has_failed(run.path):
            continue
        is_killed = was_killed(run.path) or _may_be_tried(run.path)
        if (is_killed and not give_up(run.path)) or any(need in found for need in cell.needs):
            found.append(cell)
    return found


def _may_be_tried(run: Path) -> bool:
    """Whether the last attempt at a cell failed, and its job could not try it again."""
    records = attempts_at(run)
    return bool(records) and records[-1].get("event") == "end" and records[-1].get("code") == 1
