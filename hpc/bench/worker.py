"""Train and evaluate one cell, or several together, in a process of their own."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NoReturn

from polarcast.data.errors import BadInput, Stopped, WorkFailed
from polarcast.data.files import read_limited, sole_writer, write_text
from polarcast.hpc.bench.fork_server import enter, leave_job, redirect
from polarcast.hpc.utils.console import exit_process
from polarcast.hpc.utils.exit_codes import BAD_INPUT, ENDED_EARLY, OK

PROGRESS = "progress.json"
ERROR = "error.txt"
OUTPUT = "output.txt"
REASON = "reason.txt"
"""Why a cell that was trained with others has failed, other than by its input."""
_SECONDS_BETWEEN_REPORTS = 0.25


class Reporter:
    """Write `progress.json` at most a few times a second, for the parent process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / PROGRESS
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Record that `done` of `total` steps of a stage are done."""
        now = time.monotonic()
        if now >= self._next or done == total:
            self._next = now + _SECONDS_BETWEEN_REPORTS
            self._file.write_text(json.dumps({"stage": stage, "done": done, "total": total}), encoding="utf-8")


def run_cell(folder: Path) -> None:
    """Train and evaluate the run configured in `folder`; complete parts are not repeated."""
    from polarcast.hpc.distributed.world import detect
    from polarcast.hpc.evaluation.evaluate import evaluate
    from polarcast.hpc.runs.build import open_shards
    from polarcast.hpc.runs.folder import RunFolder
    from polarcast.hpc.training.train import train

    run, report = RunFolder(folder, trust=True), Reporter(folder)  # configured by the suite of this user
    config = run.config()
    train(config, run, detect(), lambda done, total, loss: report("train", done, total))
    evaluate(run, open_shards(config), run.output, on_frames=lambda d, t: report("evaluate", d, t))


def run_together(folders: Sequence[Path]) -> None:
    """Train the runs configured in `folders` together, and evaluate each; complete parts are not repeated.

    Raises:
        BadInput: a run failed because of its input; `error.txt` in its folder has the reason. The others are complete.
        WorkFailed: a run failed for another reason.
    """
    from polarcast.hpc.evaluation.evaluate import evaluate
    from polarcast.hpc.runs.build import open_shards
    from polarcast.hpc.runs.folder import RunFolder
    from polarcast.hpc.training.together import Member, train_together

    members = []
    for folder in folders:
        run, report = RunFolder(folder, trust=True), Reporter(folder)
        members.append(Member(run.config(), run, partial(_report_step, report)))
    train_together(members)
    failures: list[BadInput | WorkFailed] = []
    for member in members:
        try:
            if member.failure:
                raise member.failure
            on_frames = partial(Reporter(member.run.path), "evaluate")
            evaluate(member.run, open_shards(member.config), member.run.output, on_frames=on_frames)
        except (BadInput, WorkFailed) as error:
            failures.append(error)
            print(f"{member.run.path.name}: {error}", file=sys.stderr)
            # The output of all members is with the first; each keeps its own reason.
            write_text(member.run.path / (ERROR if isinstance(error, BadInput) else REASON), f"{error}\n")
    if failures:
        raise failures[0]


def _report_step(report: Reporter, done: int, total: int, loss: float) -> None:
    report("train", done, total)


def read_progress(folder: Path) -> tuple[str, int, int]:
    """Return the stage, steps done and total steps of a cell; ("", 0, 1) before its first report."""
    try:
        report = json.loads(read_limited(folder / PROGRESS).decode())
        return report["stage"], report["done"], report["total"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "", 0, 1


def work(*folders: Path) -> NoReturn:
    """Run one or several cells as a process of the fork server, and end it.

    Output goes to `output.txt` in the folder of the first cell.
    """
    redirect(folders[0] / OUTPUT)
    leave_job()
    enter()
    exit_process(_exit_code(folders))


def _exit_code(folders: Sequence[Path]) -> int:
    """Run cells; return the exit code. Invalid input is one line, which the parent repeats."""
    try:
        with ExitStack() as claimed:
            for folder in folders:
                claimed.enter_context(sole_writer(folder))
            if len(folders) > 1:
                run_together(folders)
            else:
                run_cell(folders[0])
    except BadInput as error:
        if not any((folder / ERROR).exists() for folder in folders):
            write_text(folders[0] / ERROR, f"{error}\n")
        print(error, file=sys.stderr)
        return BAD_INPUT
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return ENDED_EARLY
    return OK
