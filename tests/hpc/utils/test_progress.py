"""Progress of a suite in a log file: what is done, the time so far, and an honest remaining time."""

import io
import re
import tracemalloc

import numpy as np
import pytest
from rich.console import Console

from polarcast.hpc.utils.progress import ProgressBoard, time_words


class Log:
    """A board that writes to a file, with a clock that the test sets."""

    def __init__(self) -> None:
        self.now, self.file = 0.0, io.StringIO()
        self.board = ProgressBoard(Console(file=self.file), clock=lambda: self.now)

    def new_lines(self) -> list[str]:
        lines = self.file.getvalue().splitlines()
        self.file.truncate(0)
        self.file.seek(0)
        return lines


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_line_every_thirty_seconds(log: Log) -> None:
    with log.board.stage("shard", "events", 100) as done:
        lines = []
        for log.now in range(0, 100, 5):
            done(int(log.now))
            lines += log.new_lines()
    assert lines == [
        "shard: 100 events …",
        "shard: 30 of 100 events, 30 s so far, about 1 min 10 s left",
        "shard: 60 of 100 events, 1 min so far, about 40 s left",
        "shard: 90 of 100 events, 1 min 30 s so far, about 10 s left",
    ]
    assert log.new_lines() == ["shard: done in 1 min 35 s"]


def test_a_finished_cell_is_told_at_once(log: Log) -> None:
    log.board.expect("cells", 100.0)
    with log.board.stage("cells", "runs", 2, weighted=True) as done:
        report = log.board.cell_bar("unet-radar")
        log.new_lines()
        log.now = 5.0
        report("train", 1, 2)
        done(0)
        assert log.new_lines() == []
        log.now = 7.0
        report("done", 1, 1)
        done(1)
        assert log.new_lines() == ["cells: 1 of 2 runs, 7 s so far, estimating the time left (done: unet-radar)"]
        log.board.cell_bar("unet-dualpol")("failed", 1, 1)
        assert log.new_lines() == ["unet-dualpol: failed"]


def test_nothing_is_told_before_it_is_measured(log: Log) -> None:
    log.board.expect("cells", 1000.0)
    assert log.board.remaining_seconds() is None
    with log.board.stage("cells", "runs", 2, weighted=True):
        log.board.advance("cells", 0.0)
        for log.now, share in ((5.0, 0.05), (60.0, 0.05)):
            log.board.advance("cells", share)
            known = log.board.remaining_seconds()
            assert (known is None) == (log.now < 10)


def test_work_is_weighted_by_its_cost(log: Log) -> None:
    """A fast stage of a tenth of the work is no tenth of the time by its units."""
    log.board.expect("shard", 10.0)
    log.board.expect("cells", 90.0)
    with log.board.stage("shard", "events", 5) as done:
        done(0)
        log.now = 20.0
        done(5)
    assert log.board.remaining_seconds() == pytest.approx(180.0)


def test_the_estimate_follows_a_machine_that_slows_down(log: Log) -> None:
    log.board.expect("cells", 1000.0)
    with log.board.stage("cells", "runs", 1, weighted=True):
        for second in range(1201):
            log.now = float(second)
            log.board.advance("cells", min(second, 200) / 1000 + max(0, second - 200) / 5000)
    # 400 s of work are done; the last 600 s did 120 s of it.
    log.board.advance("cells", 0.4)
    assert log.board.remaining_seconds() == pytest.approx(3000.0, rel=0.01)


def test_earlier_work_of_a_resumed_run_has_no_speed(log: Log) -> None:
    log.board.expect("cells", 100.0)
    with log.board.stage("cells", "runs", 1, weighted=True):
        log.board.advance("cells", 0.5)  # as a run that resumes reports at once
        log.now = 20.0
        log.board.advance("cells", 0.6)
        assert log.board.remaining_seconds() == pytest.approx(80.0)


def test_a_guess_is_replaced(log: Log) -> None:
    log.board.expect("cells", 50.0)
    log.board.guess("explain", 400.0)
    with log.board.stage("cells", "runs", 1, weighted=True):
        log.board.advance("cells", 0.0)
        log.now = 50.0
        log.board.advance("cells", 1.0)
        assert log.board.remaining_seconds() == pytest.approx(400.0)
        log.board.expect("explain", 25.0)
        log.board.expect("explain", 25.0)
        assert log.board.remaining_seconds() == pytest.approx(50.0)


def test_a_stage_under_way_has_its_own_speed(log: Log) -> None:
    """Its expected seconds may be on another scale than those of the stages before it."""
    log.board.expect("cells", 100.0)
    log.board.expect("explain", 100.0)
    with log.board.stage("cells", "runs", 1, weighted=True):
        log.board.advance("cells", 0.0)
        log.now = 1000.0
    assert log.board.remaining_seconds() == pytest.approx(1000.0)
    with log.board.stage("explain", "pairs", 10) as done:
        done(0)
        log.now = 1020.0
        done(2)
        assert log.board.remaining_seconds() == pytest.approx(80.0)


def test_days_of_progress_take_no_more_memory_and_the_estimate_stays(log: Log) -> None:
    """The estimate is the work left by the speed of the last half of the time, as if every sample were kept."""
    log.board.expect("cells", 1e6)
    speeds = np.tile(np.repeat([1.5, 0.5], 250), 10)  # up and down every 250 samples of 10 s
    shares = 0.98 * speeds.cumsum() / speeds.sum()
    used = []
    tracemalloc.start()
    try:
        with log.board.stage("cells", "runs", 1, weighted=True):
            for i, share in enumerate(shares):
                log.now = 10.0 * i
                log.board.advance("cells", float(share))
                if i >= 1000 and i % 100 == 0:
                    used.append(tracemalloc.get_traced_memory()[0])
                    expected = (1 - share) * (i - i // 2) * 10 / (share - shares[i // 2])
                    assert log.board.remaining_seconds() == pytest.approx(expected, rel=0.02)
    finally:
        tracemalloc.stop()
    assert min(used[-10:]) - used[0] < 200_000


def test_a_terminal_shows_bars_and_no_lines() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    with ProgressBoard(console) as board, board.stage("shard", "events", 4) as done:
        done(4)
    assert "1000/1000" in file.getvalue()
    assert not re.search("so far|done in", file.getvalue())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (190, "3 min 10 s"), (3600, "1 h"), (3725, "1 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_times_in_words(seconds: float, words: str) -> None:
    assert time_words(seconds) == words
