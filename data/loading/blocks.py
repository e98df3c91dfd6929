"""An order for shards that come as streams: shuffled blocks of whole shards, in lanes that ranks can share out.

An epoch's shards are put in random order, and all their windows in one sequence. The sequence is cut into equal lanes;
position p of the epoch is the next window of lane p mod lanes, shuffled within a block of a few shards. With lanes a
multiple of the ranks, each lane belongs to one rank for the whole epoch, so that every shard is streamed once, but for
those on a border of two lanes. On any other number of ranks the order is the same; only more is streamed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from polarcast.data.loading.epoch_weights import EpochWeights
from polarcast.data.loading.permute import Indices, keys_of, permuted

_SHARDS, _BLOCK = 1, 2


def by_shard(shard_of: Indices) -> Indices:
    """The windows shard by shard, (windows,): the order in which a weights of blocks counts them."""
    return np.argsort(shard_of, kind="stable")


@dataclass(frozen=True)
class _Epoch:
    """Shards in their order of this epoch, where each begins in its sequence, and its first entry."""

    shards: Indices
    begins: Indices
    first_entry: Indices


class BlockShuffle:
    """Which window is at each position of the endless stream, when shards are streamed."""

    def __init__(self, weights: EpochWeights, shard_of: Indices, seed: int, lanes: int, shards_per_block: int) -> None:
        """An order over windows.

        Args:
            weights: Of the windows as `by_shard` puts them.
            shard_of: The shard of each window, (windows,).
            seed: Of the order.
            lanes: Streams read side by side over all ranks.
            shards_per_block: Whole shards that are shuffled together.
        """
        self._weights, self._seed = weights, seed
        self._sequence = by_shard(shard_of)
        self._used, first = np.unique(shard_of[self._sequence], return_index=True)
        self._edges = np.append(first, len(shard_of))
        self._lanes, self._per_block = lanes, shards_per_block

    def at(self, position: Indices) -> Indices:
        """The window at each position."""
        position = np.asarray(position, dtype=np.int64)
        epochs = position // len(self._weights)
        out = np.empty(position.shape, np.int64)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            out[chosen] = self._in_epoch(position[chosen] - epoch * len(self._weights), epoch)
        return out

    def shards_at(self, position: Indices) -> set[int]:
        """All shards of the blocks that positions fall into: what has to be at hand there, and a while after."""
        found: set[int] = set()
        epochs = position // len(self._weights)
        for epoch in np.unique(epochs).tolist():
            layout = self._layout(epoch)
            low, high = self._block(position[epochs == epoch] - epoch * len(self._weights), layout)[1:]
            for first, end in {*zip(low.tolist(), high.tolist(), strict=True)}:
                begins, ends = layout.begins[:-1], layout.begins[1:]
                found.update(self._used[layout.shards[(begins < end) & (ends > first)]].tolist())
        return found

    def _in_epoch(self, index: Indices, epoch: int) -> Indices:
        layout = self._layout(epoch)
        place, low, high = self._block(index, layout)
        place = low + permuted(place - low, high - low, keys_of(self._seed, epoch, _BLOCK, low))
        which = np.searchsorted(layout.begins, place, side="right") - 1
        entry = layout.first_entry[which] + place - layout.begins[which]
        return self._sequence[self._weights.window(entry, np.full(1, epoch))]

    def _block(self, index: Indices, layout: _Epoch) -> tuple[Indices, Indices, Indices]:
        """Places in the epoch's sequence, and the bounds of the block that each is in."""
        share, extra = divmod(len(self._weights), self._lanes)
        lane = index % self._lanes
        begin = lane * share + np.minimum(lane, extra)
        place = begin + index // self._lanes
        ends = np.append(layout.begins[: -1 : self._per_block], len(self._weights))
        block = np.searchsorted(ends, place, side="right") - 1
        return place, np.maximum(ends[block], begin), np.minimum(ends[block + 1], begin + share + (lane < extra))

    @lru_cache(maxsize=4)  # noqa: B019 — an order lives as long as its reader
    def _layout(self, epoch: int) -> _Epoch:
        count = len(self._edges) - 1
        shards = permuted(np.arange(count), np.int64(count), keys_of(self._seed, epoch, _SHARDS))
        first = self._weights.entries_before(self._edges, epoch)
        begins = np.concatenate([[0], np.cumsum(np.diff(first)[shards])])
        return _Epoch(shards, begins, first[:-1][shards])
