"""One global order of samples for a seed: a pure function, the same for any number of ranks and workers.

Position p of the endless stream of samples belongs to epoch p // n. Within an epoch a counter-based permutation visits
every sample as often as its weight says: once, unless heavy rain is to come more often. Nothing is shuffled in memory
and nothing has to be replayed: to resume is to know p.
"""

from typing import Protocol

import numpy as np

from polarcast.data.loading.epoch_weights import EpochWeights
from polarcast.data.loading.permute import Indices, keys_of, permuted

_SUBSTITUTE = 0x5B5


class Order(Protocol):
    """Which window is where in the endless stream."""

    def at(self, position: Indices) -> Indices:
        """The window at each position."""


class WholeShuffle:
    """Every epoch shuffled as a whole: for readers that reach any window at the same cost."""

    def __init__(self, weights: EpochWeights, seed: int) -> None:
        self._weights, self._seed = weights, seed

    def at(self, position: Indices) -> Indices:
        """The window at each position."""
        entry = sample_at(position, len(self._weights), self._seed)
        return self._weights.window(entry, np.asarray(position) // len(self._weights))


def sample_at(position: Indices, samples: int, seed: int) -> Indices:
    """The sample (0 … samples − 1) at each position of the endless stream.

    Raises:
        ValueError: `samples` is not positive.
    """
    if samples < 1:
        raise ValueError(f"an order needs at least one sample, got {samples}")
    epoch, index = np.divmod(np.asarray(position, dtype=np.int64), samples)
    return permuted(index, np.int64(samples), keys_of(seed, epoch))


def substitute_at(position: Indices, attempt: int, samples: int, seed: int) -> Indices:
    """The sample that takes the place of one that can't be read: again a pure function of the position."""
    return sample_at(position, samples, seed ^ (_SUBSTITUTE << 40) ^ (attempt << 20))


def rank_slice(step: int, global_batch: int, rank: int, world: int) -> Indices:
    """Stream positions of one rank's part of the global batch of `step`: every `world`-th, equally many on every rank.

    Raises:
        ValueError: the global batch can't be divided among the ranks.
    """
    if global_batch % world:
        raise ValueError(f"a global batch of {global_batch} can't be divided among {world} ranks")
    return np.arange(step * global_batch + rank, (step + 1) * global_batch, world)
