"""Training samples in the one global order; what can't be read is replaced by rule, counted, and limited."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.blocks import BlockShuffle, by_shard
from polarcast.data.loading.epoch_weights import EpochWeights, balanced_weights
from polarcast.data.loading.order import Order, WholeShuffle, substitute_at
from polarcast.data.loading.permute import Indices
from polarcast.data.loading.reader import Reader
from polarcast.data.shards.health import BadShard

Transform = Callable[[Batch, Indices, int], Batch]
"""Of samples at some positions of the stream, by a seed; it depends on these alone."""
_CHUNK = (64, 4096)
"""Positions whose windows are computed together: about an epoch, within these bounds."""


class TrainSampler:
    """Batches of training windows by their positions in the endless stream.

    A window of a shard that can't be read is replaced by the first readable one of a sequence that depends on the seed
    and the position alone: every rank, whatever it has learned so far, would take the same.
    """

    def __init__(
        self,
        reader: Reader,
        order: Order,
        seed: int,
        max_bad_share: float = 0.0,
        transforms: Sequence[Transform] = (),
    ) -> None:
        """TrainSampler from a reader.

        Args:
            reader: Of the training split.
            order: Which window is at which position.
            seed: Of the substitutes.
            max_bad_share: Share of the windows that may lie in bad shards before the work fails.
            transforms: What is done to samples by chance, in this order.
        """
        self._reader, self._order, self._seed = reader, order, seed
        self._max_bad_share, self._transforms = max_bad_share, transforms
        self._lock = threading.Lock()
        self._size = min(max(len(reader), _CHUNK[0]), _CHUNK[1])
        self._shards = reader.windows.shards()
        self._is_bad = np.zeros(len(reader.manifest.shards), bool)
        self.bad: dict[int, str] = {}

    def exclude(self, bad: dict[int, str]) -> None:
        """Leave out shards. Raises BadInput when they hold more of the windows than may be lost."""
        with self._lock:
            for shard, what in bad.items():
                if shard not in self.bad:
                    self._exclude(shard, what)

    def windows(self, position: Indices) -> Indices:
        """The windows at some positions, with substitutes where they are in bad shards."""
        found, attempt = self._at(position), 0
        while self.bad and (lost := self._is_bad[self._shards[found]].any(1)).any():
            attempt += 1
            found[lost] = substitute_at(position[lost], attempt, len(self._reader), self._seed)
        return found

    def _at(self, position: Indices) -> Indices:
        """The order, computed some thousand positions at a time: one by one it would cost more than reading."""
        chunks, found = position // self._size, np.empty_like(position)
        for number in np.unique(chunks).tolist():
            here = chunks == number
            found[here] = self._chunk(number)[position[here] - number * self._size]
        return found

    @lru_cache(maxsize=4)  # noqa: B019 — a sampler lives as long as its run
    def _chunk(self, number: int) -> Indices:
        return self._order.at(np.arange(number * self._size, (number + 1) * self._size))

    def expect(self, position: Indices) -> None:
        """Tell the reader what is going to be read from the first of these positions to the last."""
        if isinstance(self._order, BlockShuffle):
            self._reader.frames.expect(self._order.shards_at(position))

    def read(self, position: Indices) -> Batch:
        """The batch at some positions. Raises BadInput when too much can't be read."""
        while True:
            try:
                batch = self._reader.read(self.windows(position))
                for transform in self._transforms:
                    batch = transform(batch, position, self._seed)
                return replace(batch, sample_index=torch.from_numpy(np.array(position, np.int64)))
            except BadShard as error:
                self.exclude({error.shard: error.what})

    def lost_share(self) -> float:
        """Share of the windows that lie in bad shards."""
        return float(self._is_bad[self._shards].any(1).mean())

    def report(self, shard: int) -> dict[str, str]:
        """A bad shard, what is wrong with it, and the share of windows lost so far."""
        return {"shard": self._url(shard), "problem": self.bad[shard], "lost": f"{self.lost_share():.2%}"}

    def _url(self, shard: int) -> str:
        return self._reader.manifest.source.url(self._reader.manifest.shards[shard].name)

    def _exclude(self, shard: int, what: str) -> None:
        self.bad[shard] = what
        self._is_bad[shard] = True
        share = self.lost_share()
        if share > self._max_bad_share or share == 1:
            raise BadShard(
                shard,
                f"{what}; bad shards hold {share:.1%} of the training windows, data.max_bad_share is "
                f"{self._max_bad_share:.1%}",
                self._url(shard),
            )


def whole_shuffle(reader: Reader, seed: int, balance: float = 0.0) -> Order:
    """Every epoch shuffled as a whole; `balance` as in `epoch_weights.balanced_weights`."""
    return WholeShuffle(_epoch_weights(reader, seed, balance, np.arange(len(reader))), seed)


def block_shuffle(reader: Reader, seed: int, balance: float, lanes: int, shards_per_block: int) -> BlockShuffle:
    """Shuffled blocks of whole shards, for a reader of streams.

    Raises:
        BadInput: a window's frames lie in two shards.
    """
    first, last = reader.windows.shards().T
    if (first != last).any():
        raise BadInput(
            "an event lies in two shards, which can't be streamed",
            reader.manifest.source.location,
            "set data.reader=mapped",
        )
    weights = _epoch_weights(reader, seed, balance, by_shard(first))
    return BlockShuffle(weights, first, seed, lanes, shards_per_block)


def _epoch_weights(reader: Reader, seed: int, balance: float, sequence: Indices) -> EpochWeights:
    weights = balanced_weights(reader.windows.intensity()[sequence], balance) if balance else None
    return EpochWeights(len(reader), seed, weights)
