"""Run Python as forks of a process with all imports: `python -m tests.support.fork_server SOCKET`.

A fork is a process of its own, with the environment, folder, streams and session that were asked for. It ends as any
Python does, but does not delete what was imported. Only the seconds of imports are shared.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.forked_children import become, fork_children, run_to_the_end

PRELOADED = (
    "deepspeed",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas",
    "pyarrow.parquet",
    "scipy.interpolate",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.stats",
    "torch._dynamo",  # imported by the first optimizer of a process
    "polarcast.hpc.cli.app",
    "polarcast.hpc.bench.run",
    "polarcast.hpc.bench.worker",
    "polarcast.hpc.evaluation.run",
    "polarcast.hpc.scores.fss_kernel",
    "polarcast.hpc.scores.pixel_kernels",
    "polarcast.hpc.training.train",
)
LARGEST_REQUEST = 1 << 17


def main(address: str) -> None:
    run_to_the_end(_become(*_serve(address)))


def _serve(address: str) -> tuple[dict[str, Any], list[int], socket.socket]:
    """Fork for each request, and report how the forks end; return in a fork, with what was asked of it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(64)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C ends pytest, and that ends this process
    forks: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _report_ended(forks)
        if listener not in ready:
            continue
        caller, _ = listener.accept()
        request, streams, _, _ = socket.recv_fds(caller, LARGEST_REQUEST, 3)
        _preload()
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for opened in (listener, *forks.values()):
                opened.close()
            for pipe_end in (ended, wake):
                os.close(pipe_end)
            return json.loads(request), streams, caller
        forks[pid] = caller
        for stream in streams:
            os.close(stream)


def _report_ended(forks: dict[int, socket.socket]) -> None:
    with suppress(ChildProcessError):
        while (end := os.waitpid(-1, os.WNOHANG))[0]:
            caller = forks.pop(end[0])
            with caller, suppress(OSError):  # the caller may be gone
                caller.send(struct.pack("i", end[1]))


def _preload() -> None:
    """Import the packages before the first fork; a process with threads must not fork."""
    if "polarcast.hpc.training.train" in sys.modules:
        return
    for name in PRELOADED:
        importlib.import_module(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"the packages started {threads - 1} threads"
    gc.freeze()


def _become(request: dict[str, Any], streams: list[int], caller: socket.socket) -> list[str]:
    """Make this fork the process that was asked for; return the program to run."""
    become(streams, request["cwd"], request["env"], request["start_new_session"])
    for stream in streams:
        os.close(stream)
    os.umask(request["umask"])
    fork_children()
    caller.send(struct.pack("i", os.getpid()))
    caller.close()
    program: list[str] = request["program"]
    return program


if __name__ == "__main__":
    main(sys.argv[1])
