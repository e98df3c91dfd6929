"""A job for worker processes, in a module that they can import."""

import os
import signal

from polarcast.data.errors import BadInput


def work(job: int) -> int:
    """The square; 3 crashes its process, 5 is bad input."""
    if job == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == 5:
        raise BadInput("five is right out")
    return job * job


def pid(_: int) -> int:
    """Where it is done."""
    return os.getpid()
