"""Training samples turned and mirrored: weather has no up and down on a map, and storms move in all directions."""

import numpy as np
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.reading.permute import Indices, keys_of

_PURPOSE = 0x7475726E
"""Keeps these numbers apart from those of others with the same seed."""


def turn(batch: Batch, position: Indices, seed: int) -> Batch:
    """Each sample in one of the eight ways to lay a square; of a field that isn't square, in one of four.

    Args:
        batch: Of fields (…, y, x); all fields of a sample are laid the same way.
        position: (b,) places of the samples in the run's endless stream; the way follows from it, and the seed, alone.
        seed: Of the run.
    """
    ways = (keys_of(seed, _PURPOSE, position) % np.uint64(8)).astype(int).tolist()
    return batch.map(lambda field: torch.stack([_laid(one, way) for one, way in zip(field, ways, strict=True)]))


def _laid(field: Tensor, way: int) -> Tensor:
    mirrored = [axis for axis, bit in ((-1, 1), (-2, 2)) if way & bit]
    turned = field.flip(mirrored) if mirrored else field
    return turned.mT if way & 4 and field.shape[-1] == field.shape[-2] else turned
