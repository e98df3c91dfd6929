"""States of jobs in the queue, by the names of the jobs."""

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALIVE = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
         "RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "PREEMPTED")  # fmt: skip
"""States of a job that runs, or will run."""
_CLIENT_SECONDS = 60
_FORMAT = "%i|%F|%K|%T|%r|%j|%S"
_MOST_INDICES = 1_000_000


@dataclass(frozen=True)
class Queued:
    """A job, or one element of a job array, as Slurm lists it.

    Attributes:
        job: Id of the job, or of the array.
        element: Index of the element; None for a job that is no array.
        state: Slurm's state, such as PENDING.
        reason: Why it waits; empty or None if it does not.
        name: Name of the job.
        begins: Expected or actual start; N/A if unknown.
    """

    job: str
    element: int | None
    state: str
    reason: str
    name: str
    begins: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or will run."""
        return self.state in ALIVE


def jobs_named(names: Iterable[str]) -> list[Queued] | None:
    """Return all jobs of some names that Slurm knows, also ended ones; None if the controller does not answer."""
    wanted = ",".join(names)
    if not wanted:
        return []
    command = ["squeue", "--noheader", "--states=all", f"--format={_FORMAT}", f"--name={wanted}"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_CLIENT_SECONDS,
            env={**os.environ, "SLURM_BITSTR_LEN": "0"},  # all indices of an array, not the first few
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else parse(done.stdout.splitlines())


def parse(lines: Sequence[str]) -> list[Queued]:
    """Return the jobs in the lines of squeue, each waiting element of an array by itself."""
    found = []
    for line in lines:
        parts = line.strip().split("|")
        if len(parts) == _FORMAT.count("|") + 1:
            _, job, indices, state, reason, name, begins = parts
            found += [Queued(job, element, state, reason, name, begins) for element in _elements(indices)]
    return found


def _elements(indices: str) -> list[int | None]:
    """Return the indices of `3`, `0-4%2` or `1,5-6`; [None] of `N/A`, which a job that is no array has."""
    found: list[int | None] = []
    for part in indices.split("%")[0].split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return [None]
        found += range(int(first), min(int(last or first), int(first) + _MOST_INDICES) + 1)
    return found
