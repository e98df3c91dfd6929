"""Run cells as processes, several at a time."""

import signal
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from polarcast.data.errors import BadInput, Stopped, WorkFailed
from polarcast.hpc.bench.fork_server import start_server
from polarcast.hpc.bench.unfinished import SCORES
from polarcast.hpc.bench.worker import ERROR, OUTPUT, PROGRESS, REASON, read_progress, work
from polarcast.hpc.distributed.preemption import StopFlag, requeue, wait_to_be_ended
from polarcast.hpc.distributed.world import World
from polarcast.hpc.utils.exit_codes import ENDED_EARLY
from polarcast.hpc.utils.progress import ProgressBoard

_POLL_SECONDS = 0.2
_LEAD_SECONDS = 120.0
_STOPPED = (ENDED_EARLY, -signal.SIGTERM)
"""Exit codes of a cell that was stopped: during training, and during evaluation."""


@dataclass(frozen=True)
class CellJob:
    """A cell to run, alone or with others in one process.

    Attributes:
        folder: Run folder.
        seconds: Expected time on one core.
        after: Run folders of the cells that must finish first.
        others: Cells that differ in their seed only, whose nets are trained together with that of this one.
        training: Share of the expected time that training takes; the rest is evaluation.
    """

    folder: Path
    seconds: float
    after: tuple[Path, ...] = ()
    others: tuple["CellJob", ...] = ()
    training: float = 1.0

    @property
    def cells(self) -> tuple["CellJob", ...]:
        """All cells of the process, each without others."""
        return replace(self, others=()), *self.others

    @property
    def folders(self) -> tuple[Path, ...]:
        """Run folders of all cells of the process."""
        return tuple(cell.folder for cell in self.cells)

    def done_share(self) -> float:
        """Return the share of this cell's expected time whose work is done, as the cell reports it."""
        stage, done, total = read_progress(self.folder)
        if stage == "evaluate":
            return self.training + (1 - self.training) * done / total
        return self.training * done / total

    def without_those_after(self, failed: Collection[Path]) -> "CellJob | None":
        """Leave out the cells of which a base has failed; None if no cell is left."""
        left = [cell for cell in self.cells if not set(cell.after) & set(failed)]
        return in_one_process(left) if left else None


class Watch(Protocol):
    """Observer of the cells that are run."""

    def started(self, folder: Path) -> None:
        """Note that the process of a cell starts."""

    def ended(self, folder: Path, code: int) -> None:
        """Note that the process of a cell has ended: 0 if the cell is scored, otherwise the exit code."""


def in_one_process(cells: Sequence[CellJob]) -> CellJob:
    """Join cells, at least one, in one process."""
    return replace(cells[0], others=tuple(cells[1:]))


@dataclass
class _Running:
    job: CellJob
    process: BaseProcess
    report: Callable[[str, int, int], None]

    @property
    def failed(self) -> list[Path]:
        """Run folders of the cells of an ended process that are not scored, if it failed."""
        folders = self.job.folders if self.process.exitcode else ()
        return [folder for folder in folders if len(folders) == 1 or not (folder / SCORES).is_file()]


def run_processes(jobs: Sequence[CellJob], workers: int, board: ProgressBoard, watch: Watch | None = None) -> None:
    """Run cells, `workers` at a time; a failed cell does not stop the others.

    On a signal, or shortly before the time limit of a Slurm job, all cells save their progress and end.

    Args:
        jobs: Cells to run.
        workers: Processes at a time.
        board: Progress board.
        watch: Observer of the cells.

    Raises:
        Stopped: all cells were stopped (in Slurm, the job is requeued), or a single cell was stopped.
        BadInput: a cell failed because of its input; the message is the cell's own.
        WorkFailed: a cell failed for another reason; the message names the file with its output.
    """
    waiting, total = list(jobs), sum(_seconds(job) for job in jobs)
    running: list[_Running] = []
    ended: list[_Running] = []
    flag = StopFlag(World(), _LEAD_SECONDS)
    with board.stage("cells", "runs", _count(jobs), weighted=True) as done, flag as stop:
        while waiting or running:
            if reason := stop.agreed():
                _stop_all(running, reason, watch)
            failed = {folder for cell in ended for folder in cell.failed}
            waiting = [left for job in waiting if (left := job.without_those_after(failed))]
            while len(running) < workers and (job := _ready(waiting, running)):
                waiting.remove(job)
                running.append(_start(job, board, watch))
            time.sleep(_POLL_SECONDS)
            newly = [cell for cell in running if _has_ended(cell)]
            _tell_ended(newly, watch)
            ended += newly
            running = [cell for cell in running if cell not in ended]
            finished = sum(_seconds(cell.job) for cell in ended)
            parts = [part for cell in running for part in cell.job.cells]
            board.advance("cells", (finished + sum(part.done_share() * part.seconds for part in parts)) / total)
            done(_count([cell.job for cell in ended]))
    if failures := [cell for cell in ended if cell.process.exitcode]:
        _raise_failure(min(failures, key=lambda cell: cell.process.exitcode in _STOPPED))


def _ready(waiting: Sequence[CellJob], running: Sequence[_Running]) -> CellJob | None:
    """Return the first cell that waits for no other."""
    jobs = [*waiting, *(cell.job for cell in running)]
    unfinished = {folder for job in jobs for folder in job.folders}
    return next((job for job in waiting if not any(set(cell.after) & unfinished for cell in job.cells)), None)


def _seconds(job: CellJob) -> float:
    return sum(cell.seconds for cell in job.cells)


def _count(jobs: Sequence[CellJob]) -> int:
    return sum(len(job.cells) for job in jobs)


def _stop_all(running: Sequence[_Running], reason: str, watch: Watch | None) -> None:
    """Stop all cells, which save their progress; then requeue the Slurm job."""
    for cell in running:
        cell.process.terminate()
    for cell in running:
        cell.process.join()
    _tell_ended(running, watch)
    if requeue():
        wait_to_be_ended()
    raise Stopped(f"stopped by {reason}; all cells saved their progress — run the same command to continue")


def _tell_ended(cells: Sequence[_Running], watch: Watch | None) -> None:
    """Tell the observer of processes that have ended; a cell of a failed process may be scored all the same."""
    for cell in cells if watch else ():
        for folder in cell.job.folders:
            code = cell.process.exitcode if folder in cell.failed else 0
            watch.ended(folder, code or 0)  # type: ignore[union-attr]


def _start(job: CellJob, board: ProgressBoard, watch: Watch | None) -> _Running:
    for folder in job.folders:
        (folder / PROGRESS).unlink(missing_ok=True)
        for name in (ERROR, REASON):
            (folder / name).unlink(missing_ok=True)
        if watch:
            watch.started(folder)
    # A daemon is stopped, not waited for, if this process ends early.
    process = start_server().Process(target=work, args=job.folders, daemon=True)
    process.start()
    name = job.folder.name.rsplit("-", 3)[0] + (f" ×{len(job.cells)}" if job.others else "")
    return _Running(job, process, board.cell_bar(name))


def _has_ended(cell: _Running) -> bool:
    """Report a cell's progress; return whether its process has ended."""
    code = cell.process.exitcode
    if code is None:
        cell.report(*read_progress(min(cell.job.cells, key=CellJob.done_share).folder))
    else:
        cell.report("stopped" if code in _STOPPED else "failed" if code else "done", 1, 1)
    return code is not None


def _raise_failure(cell: _Running) -> None:
    candidates = [*cell.failed, cell.job.folder]
    folder = next((folder for folder in candidates if (folder / ERROR).is_file()), candidates[0])
    if cell.process.exitcode in _STOPPED:
        raise Stopped(f"{folder.name} was stopped; its progress is saved — run the same command to continue")
    if (folder / ERROR).is_file():
        raise BadInput((folder / ERROR).read_text("utf-8").strip(), folder.name)
    raise WorkFailed(f"{folder.name} failed with exit code {cell.process.exitcode} — see {cell.job.folder / OUTPUT}")
