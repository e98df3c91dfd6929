"""Run cells as processes, several at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polarcast.data.errors import BadInput, Stopped, WorkFailed
from polarcast.hpc.bench.worker import ERROR, PROGRESS, read_progress
from polarcast.hpc.distributed.launch import die_with_parent
from polarcast.hpc.distributed.preemption import StopFlag, requeue, wait_to_be_ended
from polarcast.hpc.distributed.world import World
from polarcast.hpc.utils.exit_codes import ENDED_EARLY
from polarcast.hpc.utils.progress import ProgressBoard

_POLL_SECONDS = 0.2
_TRAIN_SHARE = 0.95
_LEAD_SECONDS = 120.0
_STOPPED = (ENDED_EARLY, -signal.SIGTERM)
"""Exit codes of a cell that was stopped: during training, and during evaluation."""


@dataclass(frozen=True)
class CellJob:
    """A cell to run.

    Attributes:
        folder: Run folder.
        seconds: Expected time on one core.
        after: Run folder of the cell that must finish first.
    """

    folder: Path
    seconds: float
    after: Path | None = None


@dataclass
class _Running:
    job: CellJob
    process: subprocess.Popen[bytes]
    report: Callable[[str, int, int], None]


def run_processes(jobs: Sequence[CellJob], workers: int, board: ProgressBoard) -> None:
    """Run cells, `workers` at a time; a failed cell does not stop the others.

    On a signal, or shortly before the time limit of a Slurm job, all cells save their progress and end.

    Raises:
        Stopped: all cells were stopped (in Slurm, the job is requeued), or a single cell was stopped.
        BadInput: a cell failed because of its input; the message is the cell's own.
        WorkFailed: a cell failed for another reason; the message names the file with its output.
    """
    waiting, total = list(jobs), sum(job.seconds for job in jobs)
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
            finished = sum(cell.job.seconds for cell in ended)
            board.advance("cells", (finished + sum(_share(c.job.folder) * c.job.seconds for c in running)) / total)
    if failures := [cell for cell in ended if cell.process.returncode]:
        _raise_failure(min(failures, key=lambda cell: cell.process.returncode in _STOPPED))


def _ready(waiting: Sequence[CellJob], running: Sequence[_Running]) -> CellJob | None:
    """Return the first cell that waits for no other."""
    unfinished = {job.folder for job in waiting} | {cell.job.folder for cell in running}
    return next((job for job in waiting if job.after not in unfinished), None)


def _stop_all(running: Sequence[_Running], reason: str) -> None:
    """Stop all cells, which save their progress; then requeue the Slurm job."""
    for cell in running:
        cell.process.terminate()
    for cell in running:
        cell.process.wait()
    if requeue():
        wait_to_be_ended()
    raise Stopped(f"stopped by {reason}; all cells saved their progress — run the same command to continue")


def _start(job: CellJob, board: ProgressBoard) -> _Running:
    (job.folder / PROGRESS).unlink(missing_ok=True)
    (job.folder / ERROR).unlink(missing_ok=True)
    with (job.folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "polarcast.hpc.bench.worker", str(job.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # This process requeues the Slurm job; its cells must not.
            env={name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            preexec_fn=die_with_parent,
        )
    return _Running(job, process, board.cell_bar(job.folder.name.rsplit("-", 3)[0]))


def _has_ended(cell: _Running) -> bool:
    """Report a cell's progress; return whether its process has ended."""
    code = cell.process.poll()
    if code is None:
        cell.report(*read_progress(cell.job.folder))
    else:
        cell.report("stopped" if code in _STOPPED else "failed" if code else "done", 1, 1)
    return code is not None


def _share(folder: Path) -> float:
    """Return the share of a cell's work that is done."""
    stage, done, total = read_progress(folder)
    if stage == "evaluate":
        return _TRAIN_SHARE + (1 - _TRAIN_SHARE) * done / total
    return _TRAIN_SHARE * done / total


def _raise_failure(cell: _Running) -> None:
    folder = cell.job.folder
    if cell.process.returncode in _STOPPED:
        raise Stopped(f"{folder.name} was stopped; its progress is saved — run the same command to continue")
    if (folder / ERROR).is_file():
        raise BadInput((folder / ERROR).read_text("utf-8").strip(), folder.name)
    raise WorkFailed(f"{folder.name} failed with exit code {cell.process.returncode} — see {folder / 'output.txt'}")
