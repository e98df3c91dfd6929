"""End a command at SIGTERM as at Ctrl-C: temporary files are removed, and one line says so."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from polarcast.data.errors import Terminated

SECONDS_TO_REPEAT = 5.0
"""Two SIGTERM within this time count as one: a launcher and the kernel may both deliver it."""


@contextmanager
def ends_at_sigterm() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM in the main thread of this process; a second SIGTERM, seconds later, kills it.

    Has no effect where a handler is set already, and in a rank: it may hang in a call that waits for the others, and
    must end at once.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or "RANK" in os.environ or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner, first = os.getpid(), 0.0

    def end(number: int, _: FrameType | None) -> None:
        nonlocal first
        # A forked worker inherits this handler.
        if os.getpid() != owner or (first and time.monotonic() - first > SECONDS_TO_REPEAT):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not first:
            first = time.monotonic()
            raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
