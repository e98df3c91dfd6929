"""Graceful stop: a signal to any rank, or the approaching time limit, stops training on all ranks at a step boundary.

With `--signal=USR2@120`, Slurm signals every task of a job before its end. Preemption sends the same signal, or
SIGTERM. A rank that receives a signal sets a flag. The flags are reduced after each step, so that all ranks save the
same step, and rank 0 requeues the job once.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch

from polarcast.data.errors import Stopped
from polarcast.hpc.distributed.world import World
from polarcast.hpc.utils.sigterm import SECONDS_TO_REPEAT

TIME_LIMIT = "the time limit"
REASONS = ("", TIME_LIMIT, "SIGUSR2", "SIGTERM", "SIGINT")
_SIGNALS: dict[int, int] = {signal.SIGUSR2: 2, signal.SIGTERM: 3, signal.SIGINT: 4}
_SHARE_OF_LIMIT = 0.25
"""Largest fraction of the time limit by which a job stops early; matters for short jobs."""
_CLIENT_SECONDS = 60
_SECONDS_TO_BE_ENDED = 60


class StoppedNow(BaseException):
    """A signal that `StopFlag.at_once` does not defer; its argument is the reason.

    Not an `Exception`, so that code which continues after errors does not continue after a signal.
    """


class StopFlag:
    """Flag set by signals (while entered) and by the time limit; shared by all ranks.

    A second SIGTERM, seconds later, and a second Ctrl-C end the process at once.
    """

    def __init__(self, world: World, lead_seconds: float, env: Mapping[str, str] = os.environ) -> None:
        """Stop `lead_seconds` before the time limit of the Slurm job, if there is one."""
        self._world, self._reason = world, 0
        self._deadline = _deadline(lead_seconds, env) if world.is_first else None
        self._before: dict[int, Any] = {}
        self._is_at_once = False
        self._terminated_at: float | None = None

    def __enter__(self) -> "StopFlag":
        # Only the main thread may set handlers; elsewhere the time limit alone stops a run early.
        for number in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
            # Keep SIGINT ignored, as in a background process. Job scripts ignore USR2 only until this handler is set.
            if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> str:
        """Return the reason to stop that any rank has recorded; empty if there is none. Collective."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._reason = max(self._reason, REASONS.index(TIME_LIMIT))
        if self._world.size == 1:
            return REASONS[self._reason]
        flag = torch.tensor(self._reason)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return REASONS[int(flag)]

    @contextmanager
    def at_once(self, yes: bool = True) -> Iterator[None]:
        """Raise `StoppedNow` at a signal within this context, where nothing is lost by it; `yes=False`: defer it again.

        Has no effect with several processes: one that stops alone leaves the others waiting. Their launcher ends them.
        """
        before, self._is_at_once = self._is_at_once, yes and self._world.size == 1
        try:
            yield
        finally:
            self._is_at_once = before

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        first, now = not self._reason, time.monotonic()
        if number == signal.SIGINT and self._reason == _SIGNALS[number]:
            raise KeyboardInterrupt  # second Ctrl-C
        if number == signal.SIGTERM:
            self._terminated_at = self._terminated_at or now
            if now - self._terminated_at > SECONDS_TO_REPEAT:
                raise Stopped("stopped by a second SIGTERM — run the same command to continue")
        self._reason = max(self._reason, _SIGNALS[number])
        if first and self._is_at_once:
            raise StoppedNow(REASONS[self._reason])


def requeue(env: Mapping[str, str] = os.environ) -> bool:
    """Requeue the Slurm job of this process if it is still running; return whether that was done.

    Cancelling a job also sends SIGTERM. A cancelled job is no longer in the state RUNNING, and is not requeued.
    """
    job = env.get("SLURM_JOB_ID")
    if not job or _slurm("squeue", "--noheader", "--format=%T", "--jobs", job) != "RUNNING":
        return False
    # An array element is identified by array job id and index.
    if "SLURM_ARRAY_JOB_ID" in env:
        job = f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return _slurm("scontrol", "requeue", job) is not None


def wait_to_be_ended() -> None:
    """Wait after a requeue until Slurm ends the job. A process that exits first could mark the job as completed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(_SECONDS_TO_BE_ENDED)


def _deadline(lead_seconds: float, env: Mapping[str, str]) -> float | None:
    job = env.get("SLURM_JOB_ID")
    if not lead_seconds or not job:
        return None
    left = seconds_of(_slurm("squeue", "--noheader", "--format=%L", "--jobs", job) or "")
    return None if left is None else time.monotonic() + left - min(lead_seconds, _SHARE_OF_LIMIT * left)


def seconds_of(text: str) -> int | None:
    """Parse Slurm's [[days-]hours:]minutes:seconds; return seconds, or None for UNLIMITED and other text."""
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((24 * days + hours) * 60 + minutes) * 60 + seconds


def _slurm(*command: str) -> str | None:
    """Return the output of a Slurm command. If it fails, print its error to standard error and return None."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_CLIENT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"polarcast: {' '.join(command)}: {error}", file=sys.stderr)
        return None
    if done.returncode:
        print(f"polarcast: {' '.join(command)}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return done.stdout.strip()
