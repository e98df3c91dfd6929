"""Streams: every window once, few shards at a time, and no shard twice where lanes and ranks agree."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.loading.blocks import BlockShuffle, by_shard
from polarcast.data.loading.epoch_weights import EpochWeights

sizes = st.lists(st.integers(0, 7), min_size=1, max_size=8).filter(any)


def shard_of(counts: list[int], seed: int) -> np.ndarray:
    """The shard of each window, the windows not numbered shard by shard."""
    shards = np.repeat(np.arange(len(counts)) * 3 + 1, counts)
    return np.random.default_rng(seed).permutation(shards)


@given(sizes, st.integers(1, 6), st.integers(1, 4), st.integers(0, 50), st.booleans(), st.integers(0, 3))
def test_an_epoch_has_every_window_as_often_as_its_weight_says(
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
def test_the_shards_to_have_at_hand_are_told_and_are_few(
    counts: list[int], lanes: int, together: int, seed: int, first: int
) -> None:
    shards = shard_of(counts, seed)
    order = BlockShuffle(EpochWeights(len(shards)), shards, seed, lanes, together)
    position = np.arange(first, first + lanes)
    told = order.shards_at(position)
    assert set(shards[order.at(position)].tolist()) <= told
    for one in position:
        # A block may be cut out of the shards of a lane's border.
        assert len(order.shards_at(np.array([one]))) <= together


def test_with_a_lane_for_each_rank_a_shard_is_streamed_by_one_rank_but_for_borders() -> None:
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
