"""Sample order for streamed shards: shuffled blocks of whole shards, in lanes that are divided among ranks.

Each epoch puts the shards in random order and concatenates their windows. The sequence is cut into equal lanes.
Position p of the epoch is the next window of lane p mod lanes, shuffled within a block of a few shards. If the number
of lanes is a multiple of the number of ranks, each lane belongs to one rank for the whole epoch. Every shard is then
streamed once, except those at a border between two lanes. For other numbers of ranks the order is the same, but more
data is streamed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from polarcast.data.loading.epoch_weights import EpochWeights
from polarcast.data.loading.permute import Indices, keys_of, permuted

_SHARDS, _BLOCK = 1, 2


def by_shard(shard_of: Indices) -> Indices:
    """Sort the windows by shard, (windows,); this is the order that `BlockShuffle` expects of its weights."""
    return np.argsort(shard_of, kind="stable")


@dataclass(frozen=True)
class _Epoch:
    """Layout of one epoch: shards in order, the start of each in the sequence, and its first entry."""

    shards: Indices
    begins: Indices
    first_entry: Indices


class BlockShuffle:
    """Order of windows in the infinite stream for streamed shards."""

    def __init__(self, weights: EpochWeights, shard_of: Indices, seed: int, lanes: int, shards_per_block: int) -> None:
        """Create an order over windows.

        Args:
            weights: Weights of the windows, sorted with `by_shard`.
            shard_of: Shard of each window, (windows,).
            seed: Seed of the order.
            lanes: Number of lanes over all ranks.
            shards_per_block: Number of whole shards that are shuffled together.
        """
        self._weights, self._seed = weights, seed
        self._sequence = by_shard(shard_of)
        self._used, first = np.unique(shard_of[self._sequence], return_index=True)
        self._edges = np.append(first, len(shard_of))
        self._lanes, self._per_block = lanes, shards_per_block

    def at(self, position: Indices) -> Indices:
        """Return the window at each position."""
        position = np.asarray(position, dtype=np.int64)
        epochs = position // len(self._weights)
        out = np.empty(position.shape, np.int64)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            out[chosen] = self._in_epoch(position[chosen] - epoch * len(self._weights), epoch)
        return out

    def shards_at(self, position: Indices) -> set[int]:
        """Return all shards of the blocks that the positions are in; these must be loaded to read there."""
        shards: set[int] = set()
        epochs = position // len(self._weights)
        for epoch in np.unique(epochs).tolist():
            layout = self._layout(epoch)
            low, high = self._block(position[epochs == epoch] - epoch * len(self._weights), layout)[1:]
            for first, end in {*zip(low.tolist(), high.tolist(), strict=True)}:
                begins, ends = layout.begins[:-1], layout.begins[1:]
                shards.update(self._used[layout.shards[(begins < end) & (ends > first)]].tolist())
        return shards

    def _in_epoch(self, index: Indices, epoch: int) -> Indices:
        layout = self._layout(epoch)
        place, low, high = self._block(index, layout)
        place = low + permuted(place - low, high - low, keys_of(self._seed, epoch, _BLOCK, low))
        shard = np.searchsorted(layout.begins, place, side="right") - 1
        entry = layout.first_entry[shard] + place - layout.begins[shard]
        return self._sequence[self._weights.window(entry, np.full(1, epoch))]

    def _block(self, index: Indices, layout: _Epoch) -> tuple[Indices, Indices, Indices]:
        """Places in the epoch's sequence, and the bounds of the block around each."""
        share, extra = divmod(len(self._weights), self._lanes)
        lane = index % self._lanes
        begin = lane * share + np.minimum(lane, extra)
        place = begin + index // self._lanes
        ends = np.append(layout.begins[: -1 : self._per_block], len(self._weights))
        block = np.searchsorted(ends, place, side="right") - 1
        return place, np.maximum(ends[block], begin), np.minimum(ends[block + 1], begin + share + (lane < extra))

    @lru_cache(maxsize=4)  # noqa: B019 — the order lives as long as its reader
    def _layout(self, epoch: int) -> _Epoch:
        count = len(self._edges) - 1
        shards = permuted(np.arange(count), np.int64(count), keys_of(self._seed, epoch, _SHARDS))
        first = self._weights.entries_before(self._edges, epoch)
        begins = np.concatenate([[0], np.cumsum(np.diff(first)[shards])])
        return _Epoch(shards, begins, first[:-1][shards])
