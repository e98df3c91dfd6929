"""Global sample order: a pure function of the seed, the same for any number of ranks and workers.

Position p of the infinite stream of samples belongs to epoch p // n. Within an epoch, a counter-based permutation
visits every sample once, or in proportion to its weight. Nothing is shuffled in memory, and nothing has to be replayed:
p is all the state needed to resume.
"""

from typing import Protocol

import numpy as np

from polarcast.data.loading.epoch_weights import EpochWeights
from polarcast.data.loading.permute import Indices, keys_of, permuted

_SUBSTITUTE = 0x5B5


class Order(Protocol):
    """Order of windows in the infinite stream."""

    def at(self, position: Indices) -> Indices:
        """Return the window at each position."""


class WholeShuffle:
    """Shuffle over whole epochs, for readers with random access to windows."""

    def __init__(self, weights: EpochWeights, seed: int) -> None:
        self._weights, self._seed = weights, seed

    def at(self, position: Indices) -> Indices:
        """Return the window at each position."""
        entry = sample_at(position, len(self._weights), self._seed)
        return self._weights.window(entry, np.asarray(position) // len(self._weights))


def sample_at(position: Indices, samples: int, seed: int) -> Indices:
    """Return the sample (0 … samples − 1) at each position of the infinite stream.

    Raises:
        ValueError: `samples` is not positive.
    """
    if samples < 1:
        raise ValueError(f"the number of samples must be at least 1, got {samples}")
    epoch, index = np.divmod(np.asarray(position, dtype=np.int64), samples)
    return permuted(index, np.int64(samples), keys_of(seed, epoch))


def substitute_at(position: Indices, attempt: int, samples: int, seed: int) -> Indices:
    """Return the substitute for an unreadable sample; also a pure function of the position."""
    return sample_at(position, samples, seed ^ (_SUBSTITUTE << 40) ^ (attempt << 20))


def rank_slice(step: int, global_batch: int, rank: int, world: int) -> Indices:
    """Return the stream positions of one rank in the global batch of `step`: every `world`-th position.

    Raises:
        ValueError: The global batch is not divisible by the number of ranks.
    """
    if global_batch % world:
        raise ValueError(f"a global batch of {global_batch} is not divisible by {world} ranks")
    return np.arange(step * global_batch + rank, (step + 1) * global_batch, world)
