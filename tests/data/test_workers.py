"""Worker pool: a crash in one job does not affect the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.workers import run_all
from tests.support.crashing import pid, work

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_and_bad_input_are_reported_for_their_jobs_only(workers: int) -> None:
    outcomes = dict(run_all(work, range(8), workers))
    assert sorted(outcomes) == list(range(8))
    bad = {job: outcome.what for job, outcome in outcomes.items() if isinstance(outcome, BadInput)}
    assert bad == {3: "reading it killed the process (a library crashed, or memory ran out)", 5: "bad job"}
    assert {job: r for job, r in outcomes.items() if job not in bad} == {j: j * j for j in range(8) if j not in (3, 5)}


def test_a_process_that_dies_while_a_result_is_used_affects_no_other_job() -> None:
    outcomes: dict[int, object] = {}
    for job, outcome in run_all(work, [2, 3, 4], 1):
        outcomes[job] = outcome
        time.sleep(1.5 if job == 0 else 0.0)  # Long enough for the second job, which is in flight, to kill its process.
    assert (outcomes[0], outcomes[2]) == (4, 16)
    assert isinstance(outcomes[1], BadInput)


def test_other_exceptions_are_raised() -> None:
    with pytest.raises(TypeError):
        list(run_all(work, ["a"], 1))  # type: ignore[list-item]


def test_without_isolation_jobs_run_in_this_process() -> None:
    assert dict(run_all(pid, [0, 1], 1, isolated=False)) == {0: os.getpid(), 1: os.getpid()}


@pytest.mark.parametrize("delay", [0.05, 0.5])
def test_workers_end_when_their_parent_is_killed_even_while_they_start(delay: float) -> None:
    code = (
        "import os, signal, threading\nfrom polarcast.data.workers import run_all\n"
        "from tests.support.crashing import work\n"
        "if __name__ == '__main__':\n"
        f"    threading.Timer({delay}, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()\n"
        "    list(run_all(work, [0, 1, 2] * 1000, 2))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, start_new_session=True, stderr=subprocess.DEVNULL
    )
    assert parent.wait(timeout=60) == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while left := subprocess.run(["pgrep", "-g", str(parent.pid)], capture_output=True, text=True).stdout.split():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
