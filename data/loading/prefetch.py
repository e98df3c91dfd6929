"""Ordered prefetching in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Like `map(function, items)`, but compute a few results ahead, so that reading overlaps with computing.

    Args:
        function: Function to call in threads; its exception is raised in place of its result.
        items: Arguments of the calls.
        workers: Number of threads; 0 computes each result on demand in the caller's thread.
    """
    if not workers:
        yield from map(function, items)
        return
    remaining = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    pending: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(remaining, workers + 1))
    try:
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        # Without waiting: a read that hangs must not keep a signal from ending the caller.
        pool.shutdown(wait=False, cancel_futures=True)
