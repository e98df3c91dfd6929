"""Worker processes that do not outlive whoever started them."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this worker when its parent ends, even by SIGKILL; for the `initializer` of a process pool.

    A pool's workers wait on a pipe whose other end they hold themselves, so that without this they would wait for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()
