"""Switch for code that differs under `torch.func.vmap` over the parameters of several nets."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_open: list[bool] = []


@contextmanager
def stacked() -> Iterator[None]:
    """Mark the context as running under vmap over several nets, one at a time in a process."""
    _open.append(True)
    try:
        yield
    finally:
        _open.pop()


def is_stacked() -> bool:
    """Return whether a `stacked` context is active."""
    return bool(_open)


def channels_last(x: Tensor) -> Tensor:
    """Return x (b, c, y, x) with channels last in memory; unchanged under vmap, which supports one layout only."""
    return x if is_stacked() else x.contiguous(memory_format=torch.channels_last)
