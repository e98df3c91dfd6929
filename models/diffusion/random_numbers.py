"""Random numbers of one sample, from integers that name it: whatever batch, rank or device it is on.

They come from numpy's Philox (Salmon et al. 2011), a generator made for keys, and always from the CPU. torch's own CPU
generator looks at the lower 32 bits of a seed only: among 100 000 windows two would likely share their noise.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polarcast.data.batch import Batch

LEVELS, NOISE, DROPS, FORECASTS = range(4)
"""Streams: numbers for one purpose tell nothing about those for another."""
_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio."""


def mix(*numbers: int) -> int:
    """64 well-mixed bits from integers in order (SplitMix64's finalizer, chained; Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + _GOLDEN) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def training_keys(batch: Batch) -> list[int]:
    """A number for each sample: its place in the stream of training samples.

    Outside of training, where there is none, event and frame give it: validation noise stays the same.
    """
    if batch.sample_index is not None:
        return _integers(batch.sample_index)
    return [mix(e, f) for e, f in zip(_integers(batch.event), _integers(batch.frame), strict=True)]


def forecast_keys(batch: Batch, seed: int, member: int) -> list[int]:
    """A number for each window's member of a forecast: from seed, event, frame and member alone."""
    pairs = zip(_integers(batch.event), _integers(batch.frame), strict=True)
    return [mix(FORECASTS, seed, e, f, member) for e, f in pairs]


def evenly(keys: Sequence[int]) -> Tensor:
    """Numbers in [0, 1), (b,) float64, that fill it evenly when the keys are consecutive: key / golden ratio, modulo 1.

    Samples of a batch then see noise levels all over the range, as in Kingma et al. (2021, appendix I.1), though each
    is drawn for itself.
    """
    return torch.tensor([(key * _GOLDEN & _MASK) / 2**64 for key in keys], dtype=torch.float64, device="cpu")


def uniform(keys: Sequence[int], stream: int) -> Tensor:
    """Independent numbers in [0, 1), (b,) float64."""
    return torch.tensor([mix(key, stream) / 2**64 for key in keys], dtype=torch.float64, device="cpu")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def normal(keys: Sequence[int], stream: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Standard normal fields, (b, *shape) float32."""
    fields = [np.random.Generator(_philox(key, stream)).standard_normal(shape, dtype=np.float32) for key in keys]
    return torch.from_numpy(np.stack(fields)).to(device)


def _philox(key: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=mix(key, stream))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _integers(numbers: Tensor) -> list[int]:
    # Shapes and costs are counted on tensors without content.
    return [0] * len(numbers) if numbers.is_meta else [int(n) for n in numbers.tolist()]
