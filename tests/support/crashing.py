"""Jobs for worker processes, in a module that these can import."""

import os
import signal

from polarcast.data.errors import BadInput


def work(job: int) -> int:
    """Return the square of the job; job 3 crashes its process, job 5 raises BadInput."""
    if job == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == 5:
        raise BadInput("bad job")
    return job * job


def pid(_: int) -> int:
    """Return the id of the process that runs the job."""
    return os.getpid()
