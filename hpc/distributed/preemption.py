"""Stopping in time: a signal or the approaching time limit, seen by any rank, ends training on all at a step boundary.

Slurm's `--signal=USR2@120` warns every task of a job before its end; preemption warns with the same signal, or with
SIGTERM. Whoever sees one raises a flag. The flags are compared after each step, so that all ranks save the same step,
and rank 0 puts the job back into the queue, once.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

import torch

from polarcast.hpc.distributed.world import World

TIME_LIMIT = "the time limit"
REASONS = ("", TIME_LIMIT, "SIGUSR2", "SIGTERM", "SIGINT")
_SIGNALS: dict[int, int] = {signal.SIGUSR2: 2, signal.SIGTERM: 3, signal.SIGINT: 4}
_SHARE_OF_LIMIT = 0.25
"""A short job does not spend more of its time than that on stopping early."""
_CLIENT_SECONDS = 60
_SECONDS_TO_BE_ENDED = 60


class StopFlag:
    """Raised by signals while it is entered, and by the time limit; compared between all ranks."""

    def __init__(self, world: World, lead_seconds: float, env: Mapping[str, str] = os.environ) -> None:
        """`lead_seconds` before the time limit of its Slurm job, if it has one, a run is to stop."""
        self._world, self._seen = world, 0
        self._deadline = _deadline(lead_seconds, env) if world.is_first else None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopFlag":
        for number in _SIGNALS:
            # Who starts it in the background has it ignore SIGINT; USR2 a job's script has it ignore only until now.
            if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self) -> str:
        """Why to stop, as any rank has seen; empty for nothing. Collective."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._seen = max(self._seen, REASONS.index(TIME_LIMIT))
        if self._world.size == 1:
            return REASONS[self._seen]
        flag = torch.tensor(self._seen)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return REASONS[int(flag)]

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._seen == _SIGNALS[signal.SIGINT] == _SIGNALS[number]:
            raise KeyboardInterrupt  # asked twice
        self._seen = max(self._seen, _SIGNALS[number])


def requeue(env: Mapping[str, str] = os.environ) -> bool:
    """Put this process's Slurm job back into the queue, if it is still one that runs; whether that was done.

    A job that somebody has cancelled is told so by SIGTERM, too: it is no longer running, and stays cancelled.
    """
    job = env.get("SLURM_JOB_ID")
    if not job or _slurm("squeue", "--noheader", "--format=%T", "--jobs", job) != "RUNNING":
        return False
    # An element of a job array is known by the two numbers of it.
    if "SLURM_ARRAY_JOB_ID" in env:
        job = f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return _slurm("scontrol", "requeue", job) is not None


def wait_to_be_ended() -> None:
    """After a requeue: Slurm ends the job. Whoever left by itself before that could make it a finished one."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(_SECONDS_TO_BE_ENDED)


def _deadline(lead_seconds: float, env: Mapping[str, str]) -> float | None:
    job = env.get("SLURM_JOB_ID")
    if not lead_seconds or not job:
        return None
    left = seconds_of(_slurm("squeue", "--noheader", "--format=%L", "--jobs", job) or "")
    return None if left is None else time.monotonic() + left - min(lead_seconds, _SHARE_OF_LIMIT * left)


def seconds_of(text: str) -> int | None:
    """Slurm's [[days-]hours:]minutes:seconds in seconds; None for UNLIMITED and what is no time."""
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((24 * days + hours) * 60 + minutes) * 60 + seconds


def _slurm(*command: str) -> str | None:
    """What a client of Slurm says; None, and its complaint on standard error, when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CLIENT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"polarcast: {' '.join(command)}: {error}", file=sys.stderr)
        return None
    if done.returncode:
        print(f"polarcast: {' '.join(command)}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return done.stdout.strip()
