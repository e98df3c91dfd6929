"""States of the cells of a suite, read from its files and from the queue of the cluster."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import has_writer, read_json
from polarcast.hpc.bench.cells import Cell, CellKey
from polarcast.hpc.bench.cluster.attempts import attempts_at, starts_of
from polarcast.hpc.bench.cluster.claims import is_claimed
from polarcast.hpc.bench.cluster.plan import DATA, JobPlan, PlanFolder, plans_in
from polarcast.hpc.bench.cluster.worker import OpenedSuite
from polarcast.hpc.bench.failures import FILE as FAILED_FILE
from polarcast.hpc.bench.failures import last_lines
from polarcast.hpc.bench.run import expected_seconds, is_trained
from polarcast.hpc.bench.unfinished import is_scored
from polarcast.hpc.bench.worker import read_progress
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.spent import process_hours

DONE, RUNNING, WAITING, FAILED, STOPPED, OPEN = "done", "running", "waiting", "failed", "stopped", "open"
STATES = (DONE, RUNNING, WAITING, FAILED, STOPPED, OPEN)
QUEUED, IN_JOB = "PENDING", "RUNNING"


@dataclass(frozen=True)
class CellStatus:
    """State of one cell.

    Attributes:
        model, label, arm, seed: The cell.
        state: One of `STATES`; waiting: in the queue; stopped: begun, and neither running nor in the queue; open: not
            begun, nor in the queue.
        note: Why it waits or failed, or what it does.
        stage: What a running cell does: train, evaluate, or nothing yet.
        step, steps: Training steps done and in all; 0 of a model that is not trained in steps.
        loss: Last logged loss.
        seconds_left: Expected time to the end of training, in seconds; None if unknown.
        hours: Process-hours of training so far; None without any.
        starts: How often jobs have started it.
    """

    model: str
    label: str
    arm: str
    seed: int
    state: str
    note: str = ""
    stage: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    seconds_left: float | None = None
    hours: float | None = None
    starts: int = 0


@dataclass(frozen=True)
class SuiteStatus:
    """State of a suite.

    Attributes:
        name: Name of the suite.
        folder: Its folder.
        cells: Its cells.
        stages: State of the jobs that are no cells, such as data, by name.
        hours: Process-hours of training so far.
        hours_left: Process-hours to come, from those of complete cells; None as long as none is complete.
        on_gpus: Whether these are hours of GPUs.
        is_answered: Whether the cluster's controller answered; without it, cells in the queue are not known.
        problem: Why no cell can be run, such as data that were not made; empty if they can.
    """

    name: str
    folder: Path
    cells: Sequence[CellStatus]
    stages: Mapping[str, str]
    hours: float
    hours_left: float | None
    on_gpus: bool = False
    is_answered: bool = True
    problem: str = ""

    def count(self, state: str) -> int:
        """Return the number of cells in a state."""
        return sum(cell.state == state for cell in self.cells)

    @property
    def is_over(self) -> bool:
        """Whether nothing runs or waits any more."""
        return not any(self.count(state) for state in (RUNNING, WAITING)) and not self.stages


@dataclass(frozen=True)
class Queue:
    """What the queue says of a suite.

    Attributes:
        cells: State and reason of the element that holds a cell, by the cell.
        stages: State and reason of the jobs of data and tables, by name.
        is_answered: Whether the controller answered.
    """

    cells: Mapping[CellKey, tuple[str, str]]
    stages: Mapping[str, tuple[str, str]]
    is_answered: bool = True


def status_of(opened: OpenedSuite, queue: Queue) -> SuiteStatus:
    """Return the state of a suite.

    Args:
        opened: The suite.
        queue: What the cluster's queue says.
    """
    try:
        manifest = opened.manifest
    except BadInput:  # no shards, so no cell has a folder yet
        runs: dict[CellKey, RunFolder] = {}
    else:
        runs = {key: opened.folder.cell(cell, manifest) for key, cell in opened.cells.items()}
    cells = [_status(opened, cell, runs.get(key), queue.cells.get(key)) for key, cell in opened.cells.items()]
    stages = {name: f"{state.lower()}{_why(state, reason)}" for name, (state, reason) in queue.stages.items()}
    hours = sum(cell.hours or 0 for cell in cells)
    on_gpus = any(_has_gpu(run) for run in runs.values())
    left = hours_left(list(opened.cells.values()), cells)
    problem = _problem_of_data(opened, queue) if not runs else ""
    return SuiteStatus(
        opened.suite.name, opened.folder.path, cells, stages, hours, left, on_gpus, queue.is_answered, problem
    )


def _problem_of_data(opened: OpenedSuite, queue: Queue) -> str:
    """Return that the data were not made, if their job has ended; with the last line of its log, if that is known."""
    plans = plans_in(opened.folder.path)
    if not plans or not queue.is_answered or queue.stages or queue.cells:
        return ""
    log = newest_log(PlanFolder(opened.folder.path, plans[-1].key).path, DATA)
    told = f": {log[-1]}" if log else ""
    return f"the data were not made{told} — correct that, and submit the suite again"


def newest_log(folder: Path, stage: str) -> list[str]:
    """Return the last lines of the newest log of a stage in the folder of a plan; none without one."""
    logs = sorted(folder.glob(f"*-{stage}-*.log"), key=lambda path: path.stat().st_mtime)
    return last_lines(logs[-1]) if logs else []


def _why(state: str, reason: str) -> str:
    return f" ({reason})" if state == QUEUED and reason not in ("", "None") else ""


def _has_gpu(run: RunFolder) -> bool:
    return bool(read_json(run.provenance_file).get("gpu"))


def _status(opened: OpenedSuite, cell: Cell, run: RunFolder | None, queued: tuple[str, str] | None) -> CellStatus:
    """Return the state of one cell."""
    label = opened.suite.models[cell.model].label
    plain = CellStatus(cell.model, label, cell.arm, cell.seed, WAITING if queued else OPEN)
    if run is None or not run.path.is_dir():
        return replace(plain, note=_note(queued))
    log = list(run.records())
    found = replace(plain, hours=_hours(log), starts=starts_of(run.path), **_training(cell, log))
    if is_scored(run.output):
        return replace(found, state=DONE, seconds_left=None, step=found.steps)
    if failed := read_json(run.path / FAILED_FILE):
        return replace(found, state=FAILED, note=str(failed.get("reason", "")), seconds_left=None)
    if _is_running(opened.folder.path, run.path, queued):
        stage, done, total = read_progress(run.path)
        note = f"{stage} {done} of {total}" if stage == "evaluate" else "" if stage else "starts"
        step = max(found.step, done) if stage == "train" else found.step
        return replace(found, state=RUNNING, stage=stage, note=note, step=step)
    if queued:
        return replace(found, state=WAITING, note=_note(queued))
    return replace(found, state=STOPPED if log or attempts_at(run.path) else OPEN)


def _hours(log: Sequence[Mapping[str, Any]]) -> float | None:
    with suppress(LookupError, TypeError):  # a damaged record
        return process_hours(log)
    return None


def _note(queued: tuple[str, str] | None) -> str:
    """Return why a cell in the queue waits."""
    if not queued:
        return ""
    state, reason = queued
    return "starts" if state == IN_JOB else reason if reason not in ("", "None") else state.lower()


def _is_running(suite: Path, run: Path, queued: tuple[str, str] | None) -> bool:
    """Whether a process works on a cell: a job that has claimed it and has not ended it, or a local one."""
    if has_writer(run):
        return True
    last = attempts_at(run)[-1:]
    is_begun = bool(last) and last[0].get("event") == "start"
    return is_begun and (is_claimed(suite, run.name) or bool(queued and queued[0] == IN_JOB))


def _training(cell: Cell, log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return step, steps, loss and seconds left of a training, from its log."""
    if not is_trained(cell):
        return {}
    steps = [record for record in log if record["event"] == "step" and "loss" in record]
    begun = [record for record in log if record["event"] == "start"]
    found: dict[str, Any] = {"steps": cell.config.train.steps}
    if steps:
        found |= {"step": steps[-1]["step"], "loss": steps[-1]["loss"]}
    if steps and begun and (made := steps[-1]["step"] - begun[-1]["step"]) > 0:
        each = (steps[-1].get("time", time.time()) - begun[-1].get("time", time.time())) / made
        found["seconds_left"] = max(0.0, each * (cell.config.train.steps - steps[-1]["step"]))
    return found


def hours_left(cells: Sequence[Cell], states: Sequence[CellStatus]) -> float | None:
    """Return the process-hours to come, in proportion to those of complete trainings; None if there are none."""
    spent = expected = 0.0
    left = 0.0
    for cell, status in zip(cells, states, strict=True):
        if not is_trained(cell):
            continue
        if status.state == DONE and status.hours:
            spent, expected = spent + status.hours, expected + expected_seconds(cell)
        elif status.state not in (DONE, FAILED):
            done = status.step / status.steps if status.steps else 0.0
            left += expected_seconds(cell) * (1 - done)
    if not left:
        return 0.0
    return left * spent / expected if expected else None


def queue_of(
    plans: Sequence[JobPlan], listed: Mapping[tuple[str, str], Sequence[tuple[int | None, str, str]]]
) -> Queue:
    """Return what the queue says of the cells of plans.

    Args:
        plans: Plans of the suite.
        listed: Element, state and reason of jobs that run or wait, by plan and name within it.
    """
    cells: dict[CellKey, tuple[str, str]] = {}
    stages: dict[str, tuple[str, str]] = {}
    for plan in plans:
        arrays = {array.name: array for array in plan.arrays}
        for name in plan.names:
            for element, state, reason in listed.get((plan.key, name), ()):
                if name not in arrays:
                    stages[name] = (state, reason)
                elif element is not None and element < len(arrays[name].elements):
                    cells |= dict.fromkeys(arrays[name].elements[element], (state, reason))
    return Queue(cells, stages)
