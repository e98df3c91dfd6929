"""Worker processes that do not outlive whoever started them."""

import ctypes
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

from polarcast.data.errors import BadInput

_PR_SET_PDEATHSIG = 1


def end_with_parent(by: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the process that started it ends, even by SIGKILL (Linux).

    Also for the `initializer` of a process pool: its workers wait on a pipe whose other end they hold themselves, and
    would wait forever.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0)


Job = TypeVar("Job")
Result = TypeVar("Result")
Outcome = tuple[int, Result | BadInput]


def run_all(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, isolated: bool = True
) -> Iterator[Outcome[Result]]:
    """Run a function on every job in worker processes; what one job breaks costs no other job.

    A decoder that crashes takes its process down, and with it the pool: the jobs in flight are then run one by one, so
    that the guilty one is known, and the rest goes on.

    Args:
        function: Of the top level of a module, as it travels to other processes.
        jobs: Its arguments.
        workers: Processes.
        isolated: Whether a single worker is a process of its own, too; for libraries that may crash.

    Yields:
        (index of the job, its result or the BadInput it ended in), as they come. Other exceptions are raised.
    """
    if workers == 1 and not isolated:
        yield from ((index, _outcome(function, job)) for index, job in enumerate(jobs))
        return
    todo = deque(range(len(jobs)))
    while todo:
        for suspect in (yield from _until_broken(function, jobs, todo, min(workers, len(todo)))):
            if (yield from _until_broken(function, jobs, deque([suspect]), 1)):
                yield suspect, BadInput("reading it ended the process (a crash in a library, or out of memory)")


def _outcome(function: Callable[[Job], Result], job: Job) -> Result | BadInput:
    try:
        return function(job)
    except BadInput as error:
        return error


def _until_broken(
    function: Callable[[Job], Result], jobs: Sequence[Job], todo: deque[int], workers: int
) -> Generator[Outcome[Result], None, list[int]]:
    """Work off `todo` until a process dies; returns the jobs that were in flight then, which may be none."""
    flying: dict[Future[Result], int] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        while todo or flying:
            # A process may die while a result is being used: then the next job to be handed out hears of it.
            with suppress(BrokenProcessPool):
                while todo and len(flying) < 2 * workers:
                    flying[pool.submit(function, jobs[todo[0]])] = todo[0]
                    todo.popleft()
            if not flying:
                return []
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            died = []
            for future in done:
                index = flying.pop(future)
                try:
                    yield index, future.result()
                except BadInput as error:
                    yield index, error
                except BrokenProcessPool:
                    died.append(index)
            if died:
                return sorted([*died, *flying.values()])
    return []
