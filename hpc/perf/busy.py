"""Processes that compute beside a measurement, as others do on a shared node."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Switch = Callable[[bool], None]
"""Function that lets the neighbors run (True) or stops them (False)."""

_SPIN = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(flush=True)
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""The system kills it with its parent, also while it is stopped and however the parent ends. Ctrl-C reaches both."""


@contextmanager
def neighbors(count: int) -> Iterator[Switch | None]:
    """Start processes that only compute, stopped at first; they end with the block, and with this process.

    Args:
        count: Number of processes; with 0 there is nothing to switch.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += (_start() for _ in range(count))
        yield (lambda run: _switch(processes, run)) if count else None
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-c", _SPIN, str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout as ready:
        ready.readline()  # stopped before it is bound to its parent, it could outlive it
    process.send_signal(signal.SIGSTOP)
    return process


def _switch(processes: list[subprocess.Popen[bytes]], run: bool) -> None:
    for process in processes:
        process.send_signal(signal.SIGCONT if run else signal.SIGSTOP)
