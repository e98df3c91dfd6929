"""A verb of polarcast as a function of a submitit job."""

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

_FORWARDED = (signal.SIGUSR2, signal.SIGTERM)


class Verb:
    """Runs `polarcast <command>` in each task of a job; what stops it in time is the verb's own affair.

    submitit's handler of signals acts on one rank only, but a checkpoint is written by all of them: so signals are
    handed on to the verb, whose ranks agree, save, and put the job back into the queue once. `checkpoint` is for the
    moments before that: a job that is warned while it is still starting is put back as it is.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        """Verb and arguments; TASK stands for the number of an array's element."""
        self.command = command

    def __call__(self) -> None:
        """Run it; raises RuntimeError when it fails."""
        task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
        words = [word.replace("{task}", task) for word in self.command]
        # A warning that it can't hear yet is no reason to die: there is nothing to save.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        process = subprocess.Popen([sys.executable, "-m", "polarcast.hpc.cli", *words])

        def hand_on(number: int, _: FrameType | None) -> None:
            process.send_signal(number)

        for number in _FORWARDED:
            signal.signal(number, hand_on)
        if code := process.wait():
            raise RuntimeError(f"polarcast {' '.join(words)} ended with code {code}")

    def checkpoint(self) -> Any:
        """The same again: submitit calls this when a job is warned."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
