"""Random numbers keyed by sample, independent of batch, rank and device.

They are generated on the CPU with NumPy's counter-based Philox (Salmon et al. 2011). PyTorch's CPU generator uses only
the lower 32 bits of a seed, so that two of 100 000 windows would probably share their noise.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from polarcast.data.batch import Batch

LEVELS, NOISE, DROPS, FORECASTS = range(4)
"""Independent streams of random numbers, one per purpose."""
_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio."""

P = ParamSpec("P")
R = TypeVar("R")


def _not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Keep torch.compile out of a function, as `torch.compiler.disable` does.

    That one imports the compiler, over a second of CPU time, into every process that imports a model. Here the
    compiler does it when it meets the function.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            disabled: Callable[P, R] = torch.compiler.disable(function)
            return disabled(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def mix(*numbers: int) -> int:
    """Hash a sequence of integers to 64 bits (chained SplitMix64 finalizer; Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + _GOLDEN) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def training_keys(batch: Batch) -> list[int]:
    """Return the random key of each sample: its index in the stream of training samples.

    Outside training, batches have no index; the key then follows from event and frame, so that validation noise is
    constant.
    """
    if batch.sample_index is not None:
        return _integers(batch.sample_index)
    return [mix(e, f) for e, f in zip(_integers(batch.event), _integers(batch.frame), strict=True)]


def forecast_keys(batch: Batch, seed: int, member: int) -> list[int]:
    """Return the random key of one forecast member for each window, from seed, event, frame and member."""
    pairs = zip(_integers(batch.event), _integers(batch.frame), strict=True)
    return [mix(FORECASTS, seed, e, f, member) for e, f in pairs]


def evenly(keys: Sequence[int]) -> Tensor:
    """Return low-discrepancy numbers in [0, 1), (b,) float64: key / golden ratio, modulo 1.

    Each number depends on its own key only. The samples of a batch have consecutive keys and thus cover the range of
    noise levels evenly, as in Kingma et al. (2021, appendix I.1).
    """
    return torch.tensor([(key * _GOLDEN & _MASK) / 2**64 for key in keys], dtype=torch.float64, device="cpu")


def uniform(keys: Sequence[int], stream: int) -> Tensor:
    """Return independent uniform numbers in [0, 1), (b,) float64."""
    return torch.tensor([mix(key, stream) / 2**64 for key in keys], dtype=torch.float64, device="cpu")


@_not_compiled
def normal(keys: Sequence[int], stream: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Return standard normal fields, (b, *shape) float32."""
    fields = [np.random.Generator(_philox(key, stream)).standard_normal(shape, dtype=np.float32) for key in keys]
    return torch.from_numpy(np.stack(fields)).to(device)


def _philox(key: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=mix(key, stream))


@_not_compiled
def _integers(numbers: Tensor) -> list[int]:
    # Meta tensors, used to count shapes and FLOPs, have no values.
    return [0] * len(numbers) if numbers.is_meta else [int(n) for n in numbers.tolist()]
