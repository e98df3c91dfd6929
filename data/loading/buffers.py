"""Reusable batch buffers, because the kernel pages in a new buffer at only half the speed of the copy."""

import math
import threading
import weakref
from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

Halves = npt.NDArray[np.float16]
_Free = tuple[Halves, torch.cuda.Event | None]


class Recycler:
    """Pool of float16 arrays; an array returns to it once no reference to it, or to a tensor made from it, is left.

    An asynchronous copy to a GPU may read its array after the last reference is gone. An array is therefore reused only
    after the GPU has finished all work that was queued when the array was returned.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[_Free]] = defaultdict(list)
        self._lock = threading.Lock()
        # New threads use GPU 0 instead of the process's own, so every rank would allocate memory on GPU 0.
        # A forked worker of a DataLoader can't use CUDA; its DataLoader pins what it receives.
        uses_gpu = get_worker_info() is None and torch.cuda.is_available()
        self._gpu = torch.cuda.current_device() if uses_gpu else None

    def take(self, shape: tuple[int, ...]) -> Halves:
        """Return an array of the given shape with arbitrary content; page-locked if there is a GPU."""
        size = math.prod(shape)
        buffer = self._unused(size)
        # torch.from_numpy keeps this object alive as long as any tensor shares its memory.
        array = buffer.reshape(shape)
        weakref.finalize(array, self._take_back, buffer).atexit = False
        return array

    def _unused(self, size: int) -> Halves:
        free = self._free[size]
        # Arrays are appended without the lock: Python may finalize one at any point, including inside this method.
        with self._lock:
            # Newest first: most of it may still be in the CPU cache.
            unused = (i for i in reversed(range(len(free))) if _is_complete(free[i][1]))
            if (i := next(unused, None)) is not None:
                return free.pop(i)[0]
        return _allocate(size, self._gpu)

    def _take_back(self, buffer: Halves) -> None:
        self._free[buffer.size].append((buffer, None if self._gpu is None else _record_event(self._gpu)))


def _record_event(gpu: int) -> torch.cuda.Event:
    """Record an event that completes when the GPU has finished the work queued so far."""
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(gpu))
    return event


def _is_complete(event: torch.cuda.Event | None) -> bool:
    return event is None or event.query()


def _allocate(size: int, gpu: int | None) -> Halves:
    if gpu is not None:
        with torch.cuda.device(gpu):
            return torch.empty(size, dtype=torch.float16, pin_memory=True).numpy()
    # numpy requests huge pages and torch does not; fewer pages mean fewer TLB misses while copying.
    return np.empty(size, np.float16)
