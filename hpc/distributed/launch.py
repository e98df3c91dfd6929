"""Launch several ranks on this machine.

The ranks meet in a file of a folder that only this user can enter. torchrun's store would listen on all interfaces, and
run what a stranger writes into it.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from polarcast.data.errors import WorkFailed
from polarcast.hpc.distributed.world import FOLDER
from polarcast.hpc.utils.exit_codes import ENDED_EARLY, FAILED, OK

_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
_SECONDS_BETWEEN_POLLS, _SECONDS_BETWEEN_LOOKS = 0.05, 1.0
_SECONDS_TO_END = 10.0
"""Time for the other ranks to end after one has failed; then they are killed."""
_SECONDS_TO_SAVE = 120.0
"""Time for the ranks to save after a signal, or after their launcher was killed; then they are killed."""
# Loaded before any fork: a child of a process with threads must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True)

Rank = subprocess.Popen[bytes]


def launch_local(arguments: Sequence[str], processes: int) -> None:
    """Run a polarcast verb as `processes` ranks on this machine.

    Raises:
        SystemExit: a rank failed; carries its exit code. The error message of the rank is on standard error.
        WorkFailed: a rank was ended by a signal that this process did not send, or did not end after one.
    """
    # -P: modules in the current folder don't replace those that are installed.
    code, signals = run_ranks([sys.executable, "-P", "-m", "polarcast.hpc.cli", *arguments], processes)
    if code and signals:
        raise SystemExit(ENDED_EARLY)
    if code < 0:
        raise WorkFailed(f"a rank was ended by {signal_name(code)}; the others were stopped")
    if code:
        raise SystemExit(code)


def run_ranks(
    command: Sequence[str],
    processes: int,
    environment: Mapping[str, str] = os.environ,
    stderr: IO[bytes] | None = None,
    seconds: float = float("inf"),
) -> tuple[int, list[int]]:
    """Run a command as ranks of one world; when a rank fails, end the others.

    Args:
        command: Command of each rank.
        processes: Number of ranks.
        environment: Environment; the variables of a rank are added.
        stderr: File for the standard error of the ranks; this process's own by default.
        seconds: Time after which the ranks are ended.

    Returns:
        Exit code of the rank that failed first, negative if a signal ended it, or 0; and the signals that this process
        received and passed on to the ranks.

    Raises:
        WorkFailed: the ranks did not end in time, or after a signal.
    """
    ranks: list[Rank] = []
    with tempfile.TemporaryDirectory(prefix="polarcast-ranks-") as folder, _forwarding(ranks) as signals:
        try:
            for rank in range(processes):
                variables = {**environment, **_variables(rank, processes, folder, environment)}
                # Not in a session of their own: a terminal's Ctrl-C, Ctrl-Z and hang-up reach launcher and ranks.
                ranks.append(subprocess.Popen(command, env=variables, stderr=stderr, preexec_fn=_end_with_parent))
            if signals:
                _terminate(ranks)
            return _wait(ranks, seconds, signals), signals
        finally:
            _end(ranks)


def _end_with_parent() -> None:
    die_with_parent(signal.SIGTERM)


def signal_name(code: int) -> str:
    """Return the name of the signal that ended a process with a negative exit code."""
    return signal.Signals(-code).name


def _variables(rank: int, processes: int, folder: str, environment: Mapping[str, str]) -> dict[str, str]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    # Each rank sets its number of threads later; libraries that start threads on import must not take all cores.
    threads = environment.get("OMP_NUM_THREADS", "1")
    return {name: str(value) for name, value in ranks.items()} | {FOLDER: folder, "OMP_NUM_THREADS": threads}


def _wait(ranks: Sequence[Rank], seconds: float, signals: Sequence[int]) -> int:
    """Wait until all ranks have ended, or one has failed; return its exit code, or that of an early end.

    Raises:
        WorkFailed: they did not end in time.
    """
    began, limit = time.monotonic(), seconds
    while time.monotonic() < began + limit:
        if signals and limit == seconds:
            limit = min(seconds, time.monotonic() - began + _SECONDS_TO_SAVE)
        codes = [rank.poll() for rank in ranks]
        if failed := [code for code in codes if code not in (None, OK, ENDED_EARLY)]:
            # A rank that was killed is the cause of the errors of the others.
            return next((code for code in failed if code < 0), failed[0])
        if None not in codes:
            return max(code or OK for code in codes)
        time.sleep(_SECONDS_BETWEEN_POLLS)
    raise WorkFailed(f"the ranks did not end within {_SECONDS_TO_SAVE if signals else seconds:g} s, and were killed")


def _end(ranks: Sequence[Rank]) -> None:
    """End the ranks that still run: they would wait for the others forever."""
    _terminate(ranks)
    deadline = time.monotonic() + _SECONDS_TO_END
    for rank in ranks:
        try:
            rank.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()


def _terminate(ranks: Sequence[Rank]) -> None:
    for rank in ranks:
        rank.terminate()


@contextmanager
def _forwarding(ranks: Sequence[Rank]) -> Iterator[list[int]]:
    """Pass stop signals on to the ranks, which then save; yield a list of the received signals."""
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        # On SIGTERM, all ranks save; a second signal changes nothing for a rank that got one from a terminal.
        _terminate(ranks)

    # Keep SIGINT ignored, as in a background process. Job scripts ignore USR2 only until this handler is set.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    numbers = [number for number in _SIGNALS if number != signal.SIGINT or not ignored]
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_launcher(env: Mapping[str, str] = os.environ) -> None:
    """End this process when its launcher ends: the ranks would otherwise keep writing to the run folder."""
    if "TORCHELASTIC_RUN_ID" in env:
        die_with_parent(signal.SIGKILL)
    elif FOLDER in env and "RANK" in env:
        # The kernel sends SIGTERM, on which a training saves. A rank that hangs does not end by that.
        threading.Thread(target=_end_after_launcher, args=(os.getppid(),), daemon=True, name="launcher").start()


def _end_after_launcher(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    time.sleep(_SECONDS_TO_SAVE)
    os._exit(FAILED)


def die_with_parent(by: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends (Linux).

    For the `preexec_fn` of a child process, which must be started from a thread that lives as long as the child.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0)
