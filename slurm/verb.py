"""A polarcast verb as the callable of a submitit job."""

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

_FORWARDED = (signal.SIGUSR2, signal.SIGTERM)


class Verb:
    """Run `polarcast <command>` in each task of a job.

    submitit's signal handler acts on one rank only, but all ranks write a checkpoint. Signals are therefore forwarded
    to the verb, whose ranks agree, save, and requeue the job once. `checkpoint` covers the time before that: a job
    that is signaled during startup is requeued unchanged.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        """Store verb and arguments; `{task}` stands for the index of the array element."""
        self.command = command

    def __call__(self) -> None:
        """Run the command. Raise RuntimeError if it fails."""
        task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
        words = [word.replace("{task}", task) for word in self.command]
        # Ignore the signal until the verb can handle it: it would kill the process, and there is nothing to save yet.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        process = subprocess.Popen([sys.executable, "-P", "-m", "polarcast.hpc.cli", *words])

        def forward(number: int, _: FrameType | None) -> None:
            process.send_signal(number)

        for number in _FORWARDED:
            signal.signal(number, forward)
        if code := process.wait():
            raise RuntimeError(f"polarcast {' '.join(words)} exited with code {code}")

    def checkpoint(self) -> Any:
        """Resubmit the same command; submitit calls this when a job is signaled."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
