"""Who is named when a run hangs; with a clock of the test's own."""

from typing import Any

import pytest

from polarcast.hpc.distributed.heartbeat import DATA, STEP, HangDetector
from polarcast.hpc.training.stragglers import is_straggler, slowest


class Ranks:
    """What each rank says of itself, and a clock that the test moves on."""

    def __init__(self, size: int, seconds: float) -> None:
        self.now = 0.0
        self.detector = HangDetector(seconds, lambda: self.now)
        self.says: dict[int, dict[str, Any]] = {
            r: {"beats": 0, "ticks": 0, "step": 1, "phase": STEP, "host": f"n{r}"} for r in range(size)
        }

    def listen(self, seconds: int, silent: int | None = None) -> str:
        """The last verdict of so many seconds in which all but one have gone on saying how far they are."""
        told = ""
        for _ in range(seconds):
            self.now += 1
            for rank, beat in self.says.items():
                beat["beats"] += rank != silent
            told = self.detector.verdict(self.says)
        return told

    def work(self, rank: int, step: int, phase: str) -> None:
        self.says[rank].update(ticks=self.says[rank]["ticks"] + 1, step=step, phase=phase)


def test_nobody_is_named_while_any_rank_goes_on() -> None:
    ranks = Ranks(3, seconds=10)
    for step in range(2, 8):
        ranks.work(1, step, STEP)
        assert ranks.listen(9) == ""


def test_the_rank_that_the_others_wait_for_is_named() -> None:
    ranks = Ranks(3, seconds=10)
    for rank, phase in enumerate((STEP, DATA, STEP)):
        ranks.work(rank, 7, phase)
    assert ranks.listen(1) == ""
    told = ranks.listen(11)
    assert told.startswith("rank 1 on n1 has stopped at step 7, waiting for data, and the others wait for it")
    assert "rank 0" not in told


def test_a_rank_that_says_nothing_is_named() -> None:
    ranks = Ranks(2, seconds=10)
    ranks.listen(1)
    assert ranks.listen(6, silent=1) == ""
    assert ranks.listen(6, silent=1).startswith("rank 1 on n1 has stopped at step 1, in the step and has been silent")


def test_a_job_that_was_suspended_as_a_whole_has_not_hung() -> None:
    ranks = Ranks(2, seconds=10)
    ranks.listen(3)
    ranks.now += 3600
    assert ranks.listen(2, silent=1) == ""
    assert ranks.listen(3) == ""


def test_where_all_wait_in_the_same_place_the_network_is_suspected() -> None:
    ranks = Ranks(2, seconds=10)
    ranks.listen(1)
    assert "all ranks have been at step 1, in the step" in ranks.listen(11)


@pytest.mark.parametrize(
    ("seconds", "rank", "times", "is_one"),
    [
        ([1.0, 1.0, 2.5, 1.1], 2, 2.5, True),
        ([1.0, 1.2], 1, 1.2, False),
        ([0.001, 0.004, 0.001], 1, 4.0, False),  # a few milliseconds come and go
        ([0.0, 0.0], 0, 1.0, False),
        ([3.0], 0, 1.0, False),
    ],
)
def test_the_slowest_rank_is_held_against_the_others(
    seconds: list[float], rank: int, times: float, is_one: bool
) -> None:
    found = slowest(seconds, [f"n{r}" for r in range(len(seconds))])
    assert (found["rank"], found["host"]) == (rank, f"n{rank}")
    assert found["times"] == pytest.approx(times)
    assert is_straggler(found) is is_one
