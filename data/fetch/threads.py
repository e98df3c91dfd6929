"""Run calls in threads, which an error or Ctrl-C in the main thread ends at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from polarcast.data.fetch.store import Halted, ObjectStore, RequestFailed

Item = TypeVar("Item")
Result = TypeVar("Result")
Done = tuple[Item, Result | RequestFailed]
_TICK_S = 0.25


@contextmanager
def in_threads(
    store: ObjectStore, function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Iterator[list[Done[Item, Result]]]]:
    """Call a function on every item; yield an iterator of what is done since its last step, possibly nothing.

    It steps at least four times a second, so that progress can be shown. An error in the body of the `with`, or an
    exception of the function that is no RequestFailed, halts the store and the calls, and is raised.

    Args:
        store: Bucket from which the function reads.
        function: Function that raises RequestFailed for an item that can't be had, and Halted after `store.halt`.
        items: Arguments.
        workers: Number of threads.
    """
    pool = ThreadPoolExecutor(max(1, min(workers, len(items))), thread_name_prefix="fetch")
    try:
        yield _results(pool, function, items)
    except BaseException:
        store.halt()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[list[Done[Item, Result]]]:
    of: dict[Future[Result], Item] = {pool.submit(function, item): item for item in items}
    pending = set(of)
    while pending:
        done, pending = wait(pending, timeout=_TICK_S, return_when=FIRST_COMPLETED)
        finished: list[Done[Item, Result]] = []
        for future in done:
            try:
                finished.append((of[future], future.result()))
            except RequestFailed as error:
                finished.append((of[future], error))
            except (Halted, CancelledError):
                pending = set()
        yield finished
