"""Processes that start warm: they are forked from a server in which all imports are done.

The executor itself must not fork: it may have threads, and CUDA is initialized in it. The server has neither.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path

from polarcast.data.workers import end_with_parent
from polarcast.hpc.distributed.launch import die_with_parent

_PRELOADED = ("polarcast.hpc.bench.warm",)
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
"""Settings of glibc's malloc, read when a process starts: reuse the memory of freed tensors in the next step.

By default, memory is returned to the system after each step, and its pages are cleared again in the next one.
"""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


def start_server() -> ForkServerContext:
    """Start the server of this process, unless it runs; return at once, while it imports.

    Returns:
        Context for processes and pools. Their processes must first call `enter`.
    """
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    # Started here, because its start unblocks signals.
    resource_tracker.ensure_running()
    # A scheduler or a terminal may signal all processes. The server inherits the mask and lives on; a forked process
    # gets its signals once it has entered.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with _variables(_ALLOCATOR):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, for a process started within this context."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def enter() -> None:
    """Prepare a forked process: it ends with its parent or with the server, and signals reach it."""
    die_with_parent()
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def leave_job() -> None:
    """Remove the variables of the Slurm job: the parent requeues the job; its cells must not."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]


def redirect(output: Path) -> None:
    """Append the output of this process to a file, and read nothing."""
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    for opened in {null, file} - {0, 1, 2}:
        os.close(opened)
