"""Training samples in the global order, with substitutes for windows in unreadable shards."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.blocks import BlockShuffle, by_shard
from polarcast.data.loading.donors import Donors, drawn_keys
from polarcast.data.loading.epoch_weights import EpochWeights, balanced_weights
from polarcast.data.loading.order import Order, WholeShuffle, substitute_at
from polarcast.data.loading.permute import Indices
from polarcast.data.loading.reader import Reader
from polarcast.data.shards.health import BadShard

Transform = Callable[[Batch, Indices, int], Batch]
"""Transform of a batch; depends only on the batch, the stream positions of its samples, and the seed."""
_CHUNK = (64, 4096)
"""Minimum and maximum number of positions whose windows are computed together; about one epoch in between."""


class TrainSampler:
    """Batches of training windows by their positions in the infinite stream.

    A window in an unreadable shard is replaced by the first readable one of a sequence that depends only on the seed
    and the position. Every rank therefore chooses the same substitute, regardless of which bad shards it has met.
    """

    def __init__(
        self,
        reader: Reader,
        order: Order,
        seed: int,
        max_bad_share: float = 0.0,
        transforms: Sequence[Transform] = (),
        donors: Donors | None = None,
    ) -> None:
        """Create a sampler.

        Args:
            reader: Reader of the training split.
            order: Order of the windows.
            seed: Seed of substitutes and transforms.
            max_bad_share: Maximum share of the windows in bad shards.
            transforms: Random transforms of the samples, applied in this order.
            donors: Donors of a placebo, by default those of the reader; each sample of the stream draws a new one.
        """
        self._reader, self._order, self._seed = reader, order, seed
        self._max_bad_share, self._transforms = max_bad_share, transforms
        self._donors = donors or reader.donors
        self._lock = threading.Lock()
        self._size = min(max(len(reader), _CHUNK[0]), _CHUNK[1])
        self._is_bad = np.zeros(len(reader.manifest.shards), bool)
        self._is_lost = np.zeros(len(reader), bool)
        self._failure: BadShard | None = None
        self.bad: dict[int, str] = {}

    def exclude(self, bad: dict[int, str], kind: type[BadShard] = BadShard) -> None:
        """Exclude shards. Raises `kind` if the share of windows lost exceeds `max_bad_share`, now and ever after."""
        with self._lock:
            for shard, what in bad.items():
                if shard not in self.bad:
                    self._exclude(shard, what, kind)
        self._check()

    def windows(self, position: Indices) -> Indices:
        """Return the windows at some positions, with substitutes for those in bad shards.

        Raises:
            BadShard: Too many shards are bad, as found by any thread.
        """
        windows, attempt = self._at(position), 0
        while self.bad and (lost := self._is_lost[windows]).any():
            self._check()
            attempt += 1
            windows[lost] = substitute_at(position[lost], attempt, len(self._reader), self._seed)
        return windows

    def intact(self) -> Indices:
        """Windows without those in bad shards, ascending."""
        return np.flatnonzero(~self._is_lost)

    def _at(self, position: Indices) -> Indices:
        """Evaluate the order in chunks of positions; one at a time would cost more than reading."""
        chunks, windows = position // self._size, np.empty_like(position)
        for number in np.unique(chunks).tolist():
            chosen = chunks == number
            windows[chosen] = self._chunk(number)[position[chosen] - number * self._size]
        return windows

    @lru_cache(maxsize=4)  # noqa: B019 — the sampler lives as long as its run
    def _chunk(self, number: int) -> Indices:
        return self._order.at(np.arange(number * self._size, (number + 1) * self._size))

    def expect(self, position: Indices) -> None:
        """Announce to a streaming reader that these positions are read next."""
        if isinstance(self._order, BlockShuffle):
            self._reader.frames.expect(self._order.shards_at(position))

    def read(self, position: Indices) -> Batch:
        """Read the batch at some positions. Raises BadInput if too many shards are bad."""
        while True:
            try:
                windows = self.windows(position)
                batch = self._reader.read(windows, self._donors_of(windows, position))
                for transform in self._transforms:
                    batch = transform(batch, position, self._seed)
                return replace(batch, sample_index=torch.from_numpy(np.array(position, np.int64)))
            except BadShard as error:
                self._check()
                self.exclude({error.shard: error.what}, type(error))

    def _donors_of(self, windows: Indices, position: Indices) -> Indices | None:
        if self._donors is None:
            return None
        try:
            return self._donors.intact(windows, drawn_keys(self._seed, position), self._is_lost.__getitem__)
        except ValueError as error:
            raise BadInput(str(error), self._reader.manifest.source.shown, "copy the bad shards again") from None

    def changed(self) -> dict[int, str]:
        """Return the problems of shards that were replaced or changed since they were opened, by number."""
        return self._reader.frames.changed()

    def lost_share(self) -> float:
        """Share of the windows in bad shards."""
        return float(self._is_lost.mean())

    def report(self, shard: int) -> dict[str, str]:
        """Describe a bad shard: its URL, its problem, and the share of windows lost so far."""
        return {"shard": self._url(shard), "problem": self.bad[shard], "lost": f"{self.lost_share():.2%}"}

    def _url(self, shard: int) -> str:
        return self._reader.manifest.source.shown_url(self._reader.manifest.shards[shard].name)

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    def _exclude(self, shard: int, what: str, kind: type[BadShard]) -> None:
        self._is_bad[shard] = True
        self._is_lost = self._reader.windows.touching(self._is_bad)
        share = self.lost_share()
        if share > self._max_bad_share or share == 1:
            allowed = f"bad shards hold {share:.1%} of the training windows, data.max_bad_share is"
            self._failure = kind(shard, f"{what}; {allowed} {self._max_bad_share:.1%}", self._url(shard))
        self.bad[shard] = what  # last: other threads look for substitutes once it is set


def whole_shuffle(reader: Reader, seed: int, balance: float = 0.0) -> Order:
    """Make an order that shuffles whole epochs; `balance` is the share in `epoch_weights.balanced_weights`."""
    return WholeShuffle(_epoch_weights(reader, seed, balance, np.arange(len(reader))), seed)


def block_shuffle(reader: Reader, seed: int, balance: float, lanes: int, shards_per_block: int) -> BlockShuffle:
    """Make an order of shuffled blocks of whole shards, for a streaming reader.

    Raises:
        BadInput: A window spans two shards.
    """
    first, last = reader.windows.shards().T
    if (first != last).any():
        raise BadInput(
            "an event spans two shards, which can't be streamed",
            reader.manifest.source.shown,
            "set data.reader=mapped",
        )
    weights = _epoch_weights(reader, seed, balance, by_shard(first))
    return BlockShuffle(weights, first, seed, lanes, shards_per_block)


def donors_of(reader: Reader, balance: float) -> Donors | None:
    """Return the donors of a placebo, by the weights of the windows in the order; None if there is no placebo."""
    if reader.donors is None or not balance:
        return reader.donors
    return reader.make_donors(balanced_weights(reader.windows.intensity(), balance))


def _epoch_weights(reader: Reader, seed: int, balance: float, sequence: Indices) -> EpochWeights:
    weights = balanced_weights(reader.windows.intensity()[sequence], balance) if balance else None
    return EpochWeights(len(reader), seed, weights)
