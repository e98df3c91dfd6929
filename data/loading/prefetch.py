"""Reading ahead in threads, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map(function, items)`, a few results ahead of who takes them, so that reading overlaps with computing.

    Args:
        function: Called in threads; its exception is raised where its result would have come.
        items: Its arguments.
        workers: Threads; each works on a result of its own. 0 does everything in the caller's thread, when asked.
    """
    if not workers:
        yield from map(function, items)
        return
    coming = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:
        waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(coming, workers + 1))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(coming, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
