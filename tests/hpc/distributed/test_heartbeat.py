"""Hang detection, with a simulated clock."""

from typing import Any

import pytest

from polarcast.hpc.distributed.heartbeat import DATA, STEP, HangDetector
from polarcast.hpc.training.stragglers import is_straggler, slowest


class Ranks:
    """Heartbeats of all ranks, and a simulated clock."""

    def __init__(self, size: int, seconds: float) -> None:
        self.now = 0.0
        self.detector = HangDetector(seconds, lambda: self.now)
        self.beats: dict[int, dict[str, Any]] = {
            r: {"beats": 0, "ticks": 0, "step": 1, "phase": STEP, "host": f"n{r}"} for r in range(size)
        }

    def advance(self, seconds: int, silent: int | None = None) -> str:
        """Advance the clock; all ranks except `silent` send a heartbeat each second. Return the last verdict."""
        verdict = ""
        for _ in range(seconds):
            self.now += 1
            for rank, beat in self.beats.items():
                beat["beats"] += rank != silent
            verdict = self.detector.verdict(self.beats)
        return verdict

    def work(self, rank: int, step: int, phase: str) -> None:
        self.beats[rank].update(ticks=self.beats[rank]["ticks"] + 1, step=step, phase=phase)


def test_no_hang_while_any_rank_makes_progress() -> None:
    ranks = Ranks(3, seconds=10)
    for step in range(2, 8):
        ranks.work(1, step, STEP)
        assert ranks.advance(9) == ""


def test_rank_behind_the_others_is_reported() -> None:
    ranks = Ranks(3, seconds=10)
    for rank, phase in enumerate((STEP, DATA, STEP)):
        ranks.work(rank, 7, phase)
    assert ranks.advance(1) == ""
    verdict = ranks.advance(11)
    assert verdict.startswith("rank 1 on n1 has stopped at step 7, waiting for data, and the others have waited for it")
    assert "rank 0" not in verdict


def test_rank_without_heartbeat_is_reported() -> None:
    ranks = Ranks(2, seconds=10)
    ranks.advance(1)
    assert ranks.advance(6, silent=1) == ""
    assert ranks.advance(6, silent=1).startswith(
        "rank 1 on n1 has stopped at step 1, in the step, and has sent no heartbeat"
    )


def test_suspended_job_is_not_a_hang() -> None:
    ranks = Ranks(2, seconds=10)
    ranks.advance(3)
    ranks.now += 3600
    assert ranks.advance(2, silent=1) == ""
    assert ranks.advance(3) == ""


def test_network_is_suspected_if_all_ranks_wait_in_the_same_phase() -> None:
    ranks = Ranks(2, seconds=10)
    ranks.advance(1)
    assert "all ranks have been at step 1, in the step" in ranks.advance(11)


@pytest.mark.parametrize(
    ("seconds", "rank", "times", "is_one"),
    [
        ([1.0, 1.0, 2.5, 1.1], 2, 2.5, True),
        ([1.0, 1.2], 1, 1.2, False),
        ([0.001, 0.004, 0.001], 1, 4.0, False),  # differences of milliseconds are noise
        ([0.0, 0.0], 0, 1.0, False),
        ([3.0], 0, 1.0, False),
    ],
)
def test_slowest_rank_is_compared_with_the_median(seconds: list[float], rank: int, times: float, is_one: bool) -> None:
    found = slowest(seconds, [f"n{r}" for r in range(len(seconds))])
    assert (found["rank"], found["host"]) == (rank, f"n{rank}")
    assert found["times"] == pytest.approx(times)
    assert is_straggler(found) is is_one
