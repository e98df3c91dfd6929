"""Scoring in threads: in order, with one thread of torch each, and few forecasts in memory."""

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch

from polarcast.hpc.evaluation.scorers import scored


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_in_order_and_computed_with_one_thread(workers: int) -> None:
    found = list(scored(lambda item: (item, torch.get_num_threads()), range(20), workers))
    assert found == [(item, 1) for item in range(20)]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_items_are_made_with_the_threads_of_the_caller(workers: int) -> None:
    assert set(scored(lambda threads: threads, (torch.get_num_threads() for _ in range(9)), workers)) == {2}


def test_few_items_are_ahead_of_the_results() -> None:
    made, go = 0, threading.Event()

    def items() -> Iterator[int]:
        nonlocal made
        for made in range(1, 10):
            if made == 4:
                go.set()
            yield made

    def wait_for_more(item: int) -> int:
        assert go.wait(30)
        return made - item

    assert max(scored(wait_for_more, items(), 3)) <= 4


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_is_raised(workers: int) -> None:
    def fail(item: int) -> int:
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(scored(fail, range(5), workers))
    assert torch.get_num_threads() == 2


def test_threads_that_started_do_not_wait_for_one_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, list[threading.Thread]()

    def refuse_the_third(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_third)
    with suppress(RuntimeError):
        list(scored(lambda item: item, range(5), 3))
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()
    assert torch.get_num_threads() == 2
