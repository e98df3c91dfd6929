"""What one job breaks costs no other job."""

import os
import time

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.workers import run_all
from tests.support.crashing import pid, work


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_and_bad_input_are_told_of_their_jobs_alone(workers: int) -> None:
    outcomes = dict(run_all(work, range(8), workers))
    assert sorted(outcomes) == list(range(8))
    bad = {job: outcome.what for job, outcome in outcomes.items() if isinstance(outcome, BadInput)}
    assert bad == {3: "reading it ended the process (a crash in a library, or out of memory)", 5: "five is right out"}
    assert {job: r for job, r in outcomes.items() if job not in bad} == {j: j * j for j in range(8) if j not in (3, 5)}


def test_a_process_that_dies_while_a_result_is_used_costs_no_other_job() -> None:
    outcomes: dict[int, object] = {}
    for job, outcome in run_all(work, [2, 3, 4], 1):
        outcomes[job] = outcome
        time.sleep(1.5 if job == 0 else 0.0)  # Long enough for the second job, which is in flight, to end the process.
    assert (outcomes[0], outcomes[2]) == (4, 16)
    assert isinstance(outcomes[1], BadInput)


def test_other_exceptions_are_raised() -> None:
    with pytest.raises(TypeError):
        list(run_all(work, ["a"], 1))  # type: ignore[list-item]


def test_without_isolation_thework_is_done_here() -> None:
    assert dict(run_all(pid, [0, 1], 1, isolated=False)) == {0: os.getpid(), 1: os.getpid()}
