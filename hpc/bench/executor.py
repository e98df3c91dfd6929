"""Cells as processes, a few at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polarcast.data.errors import BadInput, Stopped, WorkFailed
from polarcast.data.workers import end_with_parent
from polarcast.hpc.bench.worker import ERROR, PROGRESS, read_progress
from polarcast.hpc.distributed.preemption import StopFlag, requeue, wait_to_be_ended
from polarcast.hpc.distributed.world import World
from polarcast.hpc.utils.exit_codes import ENDED_EARLY
from polarcast.hpc.utils.progress import ProgressBoard

_POLL_SECONDS = 0.2
_TRAIN_SHARE = 0.95
_LEAD_SECONDS = 120.0
_STOPPED = (ENDED_EARLY, -signal.SIGTERM)
"""How a cell ends that was asked to: while it trains, and while it is scored."""


@dataclass(frozen=True)
class CellJob:
    """A cell to run: its folder, the seconds of one core that it is expected to take, and the one it must wait for."""

    folder: Path
    seconds: float
    after: Path | None = None


@dataclass
class _Running:
    job: CellJob
    process: subprocess.Popen[bytes]
    report: Callable[[str, int, int], None]


def run_processes(jobs: Sequence[CellJob], workers: int, board: ProgressBoard) -> None:
    """Run cells, `workers` at a time; one that fails doesn't stop the others.

    A signal, or the approaching time limit of a Slurm job, has all cells save what they have.

    Raises:
        Stopped: that has happened, in Slurm the job is back in the queue; or somebody has stopped a cell by itself.
        BadInput: a cell failed on its input; the message is the cell's own.
        WorkFailed: a cell failed otherwise; names the file with its output.
    """
    waiting, whole = list(jobs), sum(job.seconds for job in jobs)
    running: list[_Running] = []
    ended: list[_Running] = []
    flag = StopFlag(World(), _LEAD_SECONDS)
    with board.stage("cells", "runs", len(jobs), weighted=True) as done, flag as stop:
        while waiting or running:
            if reason := stop.agreed():
                _stop_all(running, reason)
            failed = {cell.job.folder for cell in ended if cell.process.returncode}
            waiting = [job for job in waiting if job.after not in failed]
            while len(running) < workers and (job := _ready(waiting, running)):
                waiting.remove(job)
                running.append(_start(job, board))
            time.sleep(_POLL_SECONDS)
            ended += [cell for cell in running if _has_ended(cell)]
            running = [cell for cell in running if cell not in ended]
            done(len(ended))
            past = sum(cell.job.seconds for cell in ended)
            board.advance("cells", (past + sum(_share(c.job.folder) * c.job.seconds for c in running)) / whole)
    if bad := [cell for cell in ended if cell.process.returncode]:
        _explain(min(bad, key=lambda cell: cell.process.returncode in _STOPPED))


def _ready(waiting: Sequence[CellJob], running: Sequence[_Running]) -> CellJob | None:
    """The first cell that waits for no other."""
    unfinished = {job.folder for job in waiting} | {cell.job.folder for cell in running}
    return next((job for job in waiting if job.after not in unfinished), None)


def _stop_all(running: Sequence[_Running], reason: str) -> None:
    """Have all cells save and end; then put the job back into the queue."""
    for cell in running:
        cell.process.terminate()
    for cell in running:
        cell.process.wait()
    if requeue():
        wait_to_be_ended()
    raise Stopped(f"stopped by {reason}; all cells have saved what they had, and the same command continues them")


def _start(job: CellJob, board: ProgressBoard) -> _Running:
    (job.folder / PROGRESS).unlink(missing_ok=True)
    (job.folder / ERROR).unlink(missing_ok=True)
    with (job.folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "polarcast.hpc.bench.worker", str(job.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # The job is ours to put back into the queue, not each cell's.
            env={name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            preexec_fn=end_with_parent,
        )
    return _Running(job, process, board.cell_bar(job.folder.name.rsplit("-", 3)[0]))


def _has_ended(cell: _Running) -> bool:
    """Pass a cell's progress on; True once it has ended."""
    code = cell.process.poll()
    if code is None:
        cell.report(*read_progress(cell.job.folder))
    else:
        cell.report("stopped" if code in _STOPPED else "failed" if code else "done", 1, 1)
    return code is not None


def _share(folder: Path) -> float:
    """Share of a cell's work that is done."""
    stage, done, total = read_progress(folder)
    if stage == "evaluate":
        return _TRAIN_SHARE + (1 - _TRAIN_SHARE) * done / total
    return _TRAIN_SHARE * done / total


def _explain(cell: _Running) -> None:
    folder = cell.job.folder
    if cell.process.returncode in _STOPPED:
        raise Stopped(f"{folder.name} was stopped; it has saved what it had, and the same command continues it")
    if (folder / ERROR).is_file():
        raise BadInput((folder / ERROR).read_text().strip(), folder.name)
    raise WorkFailed(f"{folder.name} ended with code {cell.process.returncode}; see {folder / 'output.txt'}")
