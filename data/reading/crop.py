"""Random patches of training samples: as much weather in smaller steps."""

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.reading.permute import Indices, keys_of

_PURPOSE = 0x63726F70
"""Keeps these numbers apart from those of others with the same seed."""


def crop(batch: Batch, position: Indices, seed: int, side: int) -> Batch:
    """A square patch of each sample, in a place that follows from its position in the stream, and the seed, alone.

    Args:
        batch: Of whole fields.
        position: (b,) places of the samples in the run's endless stream.
        seed: Of the run.
        side: Of the patch, in pixels; at most that of the fields.
    """
    height, width = batch.radar.shape[-2:]
    top = (keys_of(seed, _PURPOSE, position) % np.uint64(height - side + 1)).astype(int)
    left = (keys_of(seed, _PURPOSE + 1, position) % np.uint64(width - side + 1)).astype(int)
    places = [(slice(y, y + side), slice(x, x + side)) for y, x in zip(top.tolist(), left.tolist(), strict=True)]
    return batch.map(lambda field: torch.stack([one[..., y, x] for one, (y, x) in zip(field, places, strict=True)]))
