"""Threads that score, each with a single thread of torch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def scored(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Like `map(function, items)`, but compute in threads while the caller's thread makes the next items.

    Small operations that are divided among threads wait whenever one of them is not running, so every worker computes
    with one thread. Compiled loops and most of torch run in parallel.

    Args:
        function: Function to call; its exception is raised in place of its result.
        items: Arguments of the calls, made on demand: at most one more than there are workers exist at a time.
        workers: Number of threads; 1 computes in the caller's thread, also with one thread of torch.
    """
    if workers == 1:
        yield from (_alone(function, item) for item in items)
        return
    pool = _start(workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            while pending and (len(pending) > workers or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(function: Callable[[Item], Result], item: Item) -> Result:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item)
    finally:
        torch.set_num_threads(threads)


def _start(workers: int) -> ThreadPoolExecutor:
    """Start all threads at once; the number of threads of the caller remains what it is."""
    threads, started = torch.get_num_threads(), Barrier(workers)

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # binds the number to this thread; threads without one take the last that was set
        started.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="score")
    try:
        for ready in [pool.submit(begin) for _ in range(workers)]:
            ready.result()
    finally:
        started.abort()  # those that started must not wait for one that the system refuses
        torch.set_num_threads(threads)
    return pool
