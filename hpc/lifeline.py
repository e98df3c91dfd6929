"""A child that must not outlive its parent, and a folder that must not have two writers."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polarcast.data.errors import BadInput


def end_with_parent() -> None:
    """End this process when its standard input, a pipe held by the parent, closes: even after the parent's SIGKILL."""

    def watch() -> None:
        # Not sys.stdin: its lock, held here, would abort the interpreter when it shuts down.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


@contextmanager
def sole_writer(folder: Path, writes: bool = True) -> Iterator[None]:
    """Hold a folder's lock (if this process writes there); the system frees it whatever way the process ends.

    Raises:
        BadInput: another process holds it.
    """
    if not writes:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput("another process is working here", folder, "wait for it, or stop it first") from None
        yield
