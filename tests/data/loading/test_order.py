import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.loading.order import rank_slice, sample_at


@given(st.integers(1, 3000), st.integers(0, 2**31), st.integers(0, 1000))
def test_every_epoch_visits_every_sample_exactly_once(samples: int, seed: int, epoch: int) -> None:
    visited = sample_at(np.arange(epoch * samples, (epoch + 1) * samples), samples, seed)
    np.testing.assert_array_equal(np.sort(visited), np.arange(samples))


@given(st.integers(1, 5000), st.integers(0, 999), st.data())
def test_a_position_gives_the_same_sample_alone_or_in_a_batch(samples: int, seed: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, 10 * samples))
    many = sample_at(np.arange(position, position + 50), samples, seed)
    assert sample_at(np.array([position + 17]), samples, seed)[0] == many[17]


def test_epochs_and_seeds_differ() -> None:
    first, second = sample_at(np.arange(1000), 500, 0).reshape(2, 500)
    assert (first != second).mean() > 0.9
    assert (sample_at(np.arange(500), 500, 1) != first).mean() > 0.9


def test_the_order_looks_shuffled() -> None:
    order = sample_at(np.arange(20_000), 20_000, 5)
    assert abs(np.corrcoef(np.arange(20_000), order)[0, 1]) < 0.03
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03


def test_a_huge_number_of_samples_needs_no_memory() -> None:
    samples = sample_at(np.arange(1000), 10**12, 0)
    assert len(np.unique(samples)) == 1000
    assert samples.max() < 10**12


@given(st.integers(0, 100), st.sampled_from([(12, w) for w in (1, 2, 3, 4, 6, 12)]))
def test_ranks_partition_the_global_batch(step: int, batch_and_world: tuple[int, int]) -> None:
    batch, world = batch_and_world
    parts = [rank_slice(step, batch, rank, world) for rank in range(world)]
    assert {len(part) for part in parts} == {batch // world}
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), rank_slice(step, batch, 0, 1))


def test_a_batch_not_divisible_by_the_ranks_is_rejected() -> None:
    with pytest.raises(ValueError, match="3 ranks"):
        rank_slice(0, 8, 0, 3)
