"""Cells as processes, a few at a time."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cell import PROGRESS, read_progress
from polarcast.hpc.bench.progress import Board

_POLL_SECONDS = 0.2
_TRAIN_SHARE = 0.95


@dataclass
class _Running:
    folder: Path
    process: subprocess.Popen[bytes]
    report: Callable[[str, int, int], None]


def run_processes(folders: Sequence[Path], workers: int, board: Board) -> None:
    """Run the cells of `folders`, `workers` at a time; one that fails doesn't stop the others.

    Raises:
        BadInput: a cell failed on its input; the message is the cell's own.
        RuntimeError: a cell failed otherwise; names the file with its output.
    """
    waiting, finished, failed = list(folders), 0, []
    running: list[_Running] = []
    with board.stage("cells", "runs", len(folders)) as done:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_start(waiting.pop(0), board))
            time.sleep(_POLL_SECONDS)
            for cell in list(running):
                if _poll(cell):
                    running.remove(cell)
                    finished += 1
                    if cell.process.returncode:
                        failed.append(cell)
            done_part = sum(_share(cell.folder) for cell in running)
            board.advance("cells", (finished + done_part) / len(folders))
            if not running:
                done(finished)
    if failed:
        _explain(failed[0])


def _start(folder: Path, board: Board) -> _Running:
    (folder / PROGRESS).unlink(missing_ok=True)
    (folder / "error.txt").unlink(missing_ok=True)
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "polarcast.hpc.bench.cell", str(folder)],
            # The open pipe is the cell's lifeline: it ends itself when whoever holds the other end is gone.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    return _Running(folder, process, board.cell_bar(folder.name.rsplit("-", 3)[0]))


def _poll(cell: _Running) -> bool:
    """Pass a cell's progress on; True once it has ended."""
    code = cell.process.poll()
    if code is None:
        cell.report(*read_progress(cell.folder))
    else:
        cell.report("failed" if code else "done", 1, 1)
    return code is not None


def _share(folder: Path) -> float:
    stage, done, total = read_progress(folder)
    if stage == "evaluate":
        return _TRAIN_SHARE + (1 - _TRAIN_SHARE) * done / total
    return _TRAIN_SHARE * done / total


def _explain(cell: _Running) -> None:
    note = cell.folder / "error.txt"
    if note.is_file():
        raise BadInput(note.read_text().strip(), cell.folder.name)
    raise RuntimeError(
        f"{cell.folder.name} ended with code {cell.process.returncode}; see {cell.folder / 'output.txt'}"
    )
