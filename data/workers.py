"""Worker processes that end with their parent, and a process pool that isolates crashes."""

import errno
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import TypeVar

from polarcast.data.errors import BadInput


def end_with_parent() -> None:
    """End this worker when its parent process ends, even by SIGKILL; for the `initializer` of a process pool.

    A pool's workers wait on a pipe whose other end they hold themselves, and would wait forever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


Job = TypeVar("Job")
Result = TypeVar("Result")
Outcome = tuple[int, Result | BadInput]
_MOST_SHOWN = 200


def run_all(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, isolated: bool = True
) -> Iterator[Outcome[Result]]:
    """Run a function on every job in worker processes; a crash in one job does not affect the others.

    A crashing decoder kills its process and breaks the pool. The jobs in flight are then rerun one at a time to find
    the one that crashes, and the remaining jobs continue.

    Args:
        function: Module-level function, so that it can be pickled.
        jobs: Arguments of the calls.
        workers: Number of processes.
        isolated: Whether to use a separate process even for a single worker; needed for libraries that may crash.

    Yields:
        (index of the job, its result or its BadInput) in order of completion. Other exceptions are raised.
    """
    if workers == 1 and not isolated:
        yield from ((index, _outcome(function, job)) for index, job in enumerate(jobs))
        return
    todo = deque(range(len(jobs)))
    while todo:
        for suspect in (yield from _until_broken(function, jobs, todo, min(workers, len(todo)))):
            if (yield from _until_broken(function, jobs, deque([suspect]), 1)):
                yield suspect, BadInput("reading it killed the process (a library crashed, or memory ran out)")


@contextmanager
def failures_as_bad_input(what: str, fix: str = "") -> Iterator[None]:
    """Convert any error to BadInput, so that one job's failure is told in one line and stops no other job.

    Libraries raise anything for odd files, also SystemExit and MemoryError. Signals pass. Also for use as a decorator.

    Args:
        what: What fails, such as `gridding failed`; the error and its line of code are added.
        fix: What to do.

    Raises:
        BadInput: Any error was raised; a BadInput is raised as it is.
        OSError: The disk is full.
    """
    try:
        yield
    except BadInput:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # no fault of the file: the whole work ends
            raise
        raise _as_bad_input(error, what, fix) from None
    except MemoryError:
        raise BadInput(f"{what}: not enough memory", fix="use fewer --workers, or cut it into smaller files") from None
    except (Exception, SystemExit) as error:
        raise _as_bad_input(error, what, fix) from None


def _as_bad_input(error: BaseException, what: str, fix: str) -> BadInput:
    text = " ".join(f"{type(error).__name__}{_line_of(error.__traceback__)}: {error}".split())
    return BadInput(f"{what} ({text[:_MOST_SHOWN]})", fix=fix)


def _line_of(trace: TracebackType | None) -> str:
    """Return the last line of code of a traceback, such as ` at phase.py:120`."""
    frames = extract_tb(trace)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _outcome(function: Callable[[Job], Result], job: Job) -> Result | BadInput:
    try:
        return function(job)
    except BadInput as error:
        return error


def _until_broken(
    function: Callable[[Job], Result], jobs: Sequence[Job], todo: deque[int], workers: int
) -> Generator[Outcome[Result], None, list[int]]:
    """Run the jobs of `todo` until a process dies; return the jobs that were in flight, possibly none."""
    in_flight: dict[Future[Result], int] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        while todo or in_flight:
            # A process may die while the caller uses a result; then the next submit raises.
            with suppress(BrokenProcessPool):
                while todo and len(in_flight) < 2 * workers:
                    in_flight[pool.submit(function, jobs[todo[0]])] = todo[0]
                    todo.popleft()
            if not in_flight:
                return []
            done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
            died = []
            for future in done:
                index = in_flight.pop(future)
                try:
                    yield index, future.result()
                except BadInput as error:
                    yield index, error
                except BrokenProcessPool:
                    died.append(index)
            if died:
                return sorted([*died, *in_flight.values()])
    return []
