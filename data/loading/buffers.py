"""Batch buffers that are used again: a fresh one would be paged in by the kernel at half the speed of the copy."""

import math
import threading
import weakref
from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch

Halves = npt.NDArray[np.float16]
_Free = tuple[Halves, torch.cuda.Event | None]


class Recycler:
    """Hands out float16 arrays, and takes each back once nothing refers to it or to a tensor made of it.

    A copy to a GPU reads its array later than it was asked for, maybe when nothing refers to the array any more: none
    is handed out again before the GPU has done all that was asked of it until then.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[_Free]] = defaultdict(list)
        self._taking = threading.Lock()
        # Threads begin on GPU 0, whichever is this process's: what they allocate would take memory there for each rank.
        self._gpu = torch.cuda.current_device() if torch.cuda.is_available() else None

    def take(self, shape: tuple[int, ...]) -> Halves:
        """An array of that shape with arbitrary content; page-locked where there is a GPU to copy it to."""
        size = math.prod(shape)
        buffer = self._unused(size)
        # torch.from_numpy keeps this very object alive as long as any tensor shares its memory.
        array = buffer.reshape(shape)
        weakref.finalize(array, self._take_back, buffer).atexit = False
        return array

    def _unused(self, size: int) -> Halves:
        free = self._free[size]
        # Arrays come back without the lock, at the end of the list: Python may let go of one anywhere, here, too.
        with self._taking:
            # The newest first: most of it may still be in the processor's cache.
            unused = (i for i in reversed(range(len(free))) if _has_happened(free[i][1]))
            if (i := next(unused, None)) is not None:
                return free.pop(i)[0]
        return _allocate(size, self._gpu)

    def _take_back(self, buffer: Halves) -> None:
        self._free[buffer.size].append((buffer, None if self._gpu is None else _now_on(self._gpu)))


def _now_on(gpu: int) -> torch.cuda.Event:
    """Happens when that GPU has done what it was asked for so far."""
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(gpu))
    return event


def _has_happened(event: torch.cuda.Event | None) -> bool:
    return event is None or event.query()


def _allocate(size: int, gpu: int | None) -> Halves:
    if gpu is not None:
        with torch.cuda.device(gpu):
            return torch.empty(size, dtype=torch.float16, pin_memory=True).numpy()
    # numpy asks the kernel for huge pages, torch does not: fewer of them to look up while copying.
    return np.empty(size, np.float16)
