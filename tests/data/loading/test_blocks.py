"""Block shuffle: every window once per epoch, few shards at a time, and each shard streamed by one rank."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.loading.blocks import BlockShuffle, by_shard
from polarcast.data.loading.epoch_weights import EpochWeights

sizes = st.lists(st.integers(0, 7), min_size=1, max_size=8).filter(any)


def shard_of(counts: list[int], seed: int) -> np.ndarray:
    """Shard of each window, with the windows of a shard in random positions."""
    shards = np.repeat(np.arange(len(counts)) * 3 + 1, counts)
    return np.random.default_rng(seed).permutation(shards)


@given(sizes, st.integers(1, 6), st.integers(1, 4), st.integers(0, 50), st.booleans(), st.integers(0, 3))
def test_each_window_occurs_in_an_epoch_in_proportion_to_its_weight(
    counts: list[int], lanes: int, together: int, seed: int, weighted: bool, epoch: int
) -> None:
    shards = shard_of(counts, seed)
    n = len(shards)
    w = np.random.default_rng(seed).random(n) + 0.01
    weights = EpochWeights(n, seed, w[by_shard(shards)] if weighted else None)
    drawn = BlockShuffle(weights, shards, seed, lanes, together).at(np.arange(epoch * n, (epoch + 1) * n))
    times = np.bincount(drawn, minlength=n)
    expected = n * w / w.sum() if weighted else np.ones(n)
    assert (np.abs(times - expected) < 1).all()


@given(sizes, st.integers(1, 6), st.integers(1, 4), st.integers(0, 50), st.integers(0, 30))
def test_shards_at_covers_the_windows_with_few_shards(
    counts: list[int], lanes: int, together: int, seed: int, first: int
) -> None:
    shards = shard_of(counts, seed)
    order = BlockShuffle(EpochWeights(len(shards)), shards, seed, lanes, together)
    position = np.arange(first, first + lanes)
    announced = order.shards_at(position)
    assert set(shards[order.at(position)].tolist()) <= announced
    for one in position:
        # At the border of a lane, a block may contain only part of its shards.
        assert len(order.shards_at(np.array([one]))) <= together


def test_with_one_lane_per_rank_each_shard_is_streamed_by_one_rank_except_at_borders() -> None:
    shards = np.repeat(np.arange(40), 5)
    order = BlockShuffle(EpochWeights(200), shards, 1, lanes=4, shards_per_block=2)
    by_rank = [set(shards[order.at(np.arange(rank, 200, 4))].tolist()) for rank in range(4)]
    assert sum(map(len, by_rank)) <= 40 + 3
    assert set.union(*by_rank) == set(range(40))


def test_epochs_are_shuffled_differently_and_within_blocks() -> None:
    shards = np.repeat(np.arange(20), 50)
    order = BlockShuffle(EpochWeights(1000), shards, 0, lanes=1, shards_per_block=4)
    first, second = order.at(np.arange(2000)).reshape(2, 1000)
    assert (first != second).mean() > 0.9
    assert len(set(shards[first[:200]].tolist())) == 4
    assert abs(np.corrcoef(np.arange(200), first[:200] % 50)[0, 1]) < 0.3
