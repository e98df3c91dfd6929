"""Batch buffers that are used again: a fresh one would be paged in by the kernel at half the speed of the copy."""

import math
import weakref
from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch

Halves = npt.NDArray[np.float16]


class Recycler:
    """Hands out float16 arrays, and takes each back once nothing refers to it or to a tensor made of it."""

    def __init__(self) -> None:
        self._free: dict[int, list[Halves]] = defaultdict(list)

    def take(self, shape: tuple[int, ...]) -> Halves:
        """An array of that shape with arbitrary content; page-locked where there is a GPU to copy it to."""
        size = math.prod(shape)
        free = self._free[size]
        buffer = free.pop() if free else _allocate(size)
        # torch.from_numpy keeps this very object alive as long as any tensor shares its memory.
        array = buffer.reshape(shape)
        weakref.finalize(array, free.append, buffer).atexit = False
        return array


def _allocate(size: int) -> Halves:
    if torch.cuda.is_available():
        return torch.empty(size, dtype=torch.float16, pin_memory=True).numpy()
    # numpy asks the kernel for huge pages, torch does not: fewer of them to look up while copying.
    return np.empty(size, np.float16)
