"""Which attempts at a cell count as failures, and what is recorded of a cell that has failed for good."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.bench.cluster.attempts import (
    AttemptRecorder,
    attempts_at,
    count_failures,
    give_up,
    has_failed,
    starts_of,
    try_anew,
    was_killed,
)

FAILED, KILLED, STOPPED, LOST = 1, -9, 143, None
"""Ends of an attempt: exit code, signal, saved progress, and no end at all, as of a lost node."""


def records(*attempts: tuple[int, int | None]) -> list[dict]:
    """Return the records of attempts, each its first step and its end."""
    found: list[dict] = []
    for step, code in attempts:
        found.append({"event": "start", "step": step})
        found += [] if code is None else [{"event": "end", "step": step, "code": code}]
    return found


@pytest.mark.parametrize(
    ("attempts", "step", "failures"),
    [
        ([], 0, 0),
        ([(0, FAILED)], 0, 1),
        ([(0, FAILED), (0, FAILED)], 0, 2),
        ([(0, FAILED), (40, FAILED)], 80, 2),  # progress does not excuse an error of its own
        ([(0, KILLED), (40, KILLED)], 80, 0),
        ([(0, KILLED), (0, KILLED)], 0, 2),
        ([(0, KILLED), (40, KILLED)], 40, 1),
        ([(0, LOST), (20, LOST), (30, 0)], 30, 0),
        ([(0, LOST), (0, LOST)], 0, 2),
        ([(0, STOPPED), (0, STOPPED), (0, -15), (0, STOPPED)], 0, 0),
    ],
)
def test_kills_count_only_without_progress(attempts: list, step: int, failures: int) -> None:
    assert count_failures(records(*attempts), step) == failures


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from([KILLED, STOPPED, LOST])), max_size=12))
def test_any_number_of_kills_with_progress_is_no_failure(attempts: list) -> None:
    step, made = 0, []
    for gained, code in attempts:
        made.append((step, code))
        step += gained
    assert count_failures(records(*made), step) == 0


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    (tmp_path / "output.txt").write_text(
        "Traceback (most recent call last):\n  here\nRuntimeError: CUDA out of memory\n"
    )
    return tmp_path


def test_second_failure_is_recorded_with_reason_and_last_lines(cell: Path) -> None:
    recorder = AttemptRecorder()
    for is_last in (False, True):
        recorder.started(cell)
        assert was_killed(cell)
        recorder.ended(cell, FAILED)
        assert give_up(cell) == has_failed(cell) == is_last
    failure = json.loads((cell / "failed.json").read_text())
    assert (failure["reason"], failure["attempts"]) == ("RuntimeError: CUDA out of memory", 2)
    assert failure["log"][-1] == "RuntimeError: CUDA out of memory"
    assert starts_of(cell) == 2
    try_anew(cell)
    assert (attempts_at(cell), has_failed(cell)) == ([], False)


def test_checkpoints_are_progress(cell: Path) -> None:
    recorder = AttemptRecorder()
    for step in (10, 20, 30):
        recorder.started(cell)
        recorder.ended(cell, KILLED)
        (cell / "checkpoints" / f"step-{step}").mkdir(parents=True)
        assert not give_up(cell)
    for is_last in (False, True):
        recorder.started(cell)
        recorder.ended(cell, KILLED)
        assert give_up(cell) == is_last
    assert json.loads((cell / "failed.json").read_text())["reason"] == "killed by SIGKILL before it got further"


@pytest.mark.parametrize("name", ["error.txt", "reason.txt"])
def test_message_of_the_cell_is_its_reason(cell: Path, name: str) -> None:
    (cell / name).write_text("shards: is damaged\n")
    for _ in range(2):
        AttemptRecorder().started(cell)
        AttemptRecorder().ended(cell, 2)
    assert give_up(cell)
    assert json.loads((cell / "failed.json").read_text())["reason"] == "shards: is damaged"


def test_complete_cell_has_not_failed_any_more(cell: Path) -> None:
    (cell / "failed.json").write_text("{}")
    AttemptRecorder().ended(cell, 0)
    assert not has_failed(cell)


def test_torn_lines_are_left_out(cell: Path) -> None:
    AttemptRecorder().started(cell)
    with (cell / "attempts.jsonl").open("a") as stream:
        stream.write('{"event": "end", "st')
    assert [record["event"] for record in attempts_at(cell)] == ["start"]
    assert was_killed(cell)
