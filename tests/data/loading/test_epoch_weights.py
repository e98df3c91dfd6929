"""Epoch weights: windows occur in proportion to their weights in every epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.loading.epoch_weights import EpochWeights, balanced_weights
from polarcast.data.loading.order import WholeShuffle

weights = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=60).filter(any).map(np.array)


@given(weights, st.integers(0, 99), st.integers(0, 99))
def test_each_window_occurs_in_every_epoch_in_proportion_to_its_weight(w: np.ndarray, seed: int, epoch: int) -> None:
    n = len(w)
    order = WholeShuffle(EpochWeights(n, seed, w), seed)
    times = np.bincount(order.at(np.arange(epoch * n, (epoch + 1) * n)), minlength=n)
    assert times.sum() == n
    assert (np.abs(times - n * w / w.sum()) < 1 + 1e-9).all()


@given(weights, st.integers(0, 99), st.integers(0, 9))
def test_entries_before_counts_the_entries_of_lower_windows(w: np.ndarray, seed: int, epoch: int) -> None:
    weights, n = EpochWeights(len(w), seed, w), len(w)
    window = weights.window(np.arange(n), np.full(1, epoch))
    assert (np.diff(window) >= 0).all()
    np.testing.assert_array_equal(weights.entries_before(np.arange(n), epoch), [(window < i).sum() for i in range(n)])


def test_a_window_with_all_the_weight_is_always_drawn() -> None:
    order = WholeShuffle(EpochWeights(5, 0, np.array([0, 0, 1.0, 0, 0])), 0)
    assert set(order.at(np.arange(50)).tolist()) == {2}


def test_mean_count_over_many_epochs_equals_the_weight() -> None:
    w = np.array([0.1, 0.2, 0.7, 1.5, 2.5])
    drawn = WholeShuffle(EpochWeights(5, 3, w), 3).at(np.arange(5 * 4000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 4000, w, atol=0.02)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50).map(lambda ppm: np.array(ppm) / 1e6), st.floats(0, 1))
def test_balance_is_the_share_of_draws_by_intensity(intensity: np.ndarray, share: float) -> None:
    w = balanced_weights(intensity, share)
    assert w.mean() == pytest.approx(1)
    assert (w >= 1 - share - 1e-9).all()
    if intensity.any():
        np.testing.assert_allclose(w - (1 - share), share * intensity / intensity.mean(), atol=1e-9)


@pytest.mark.parametrize("bad", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]])
def test_invalid_weights_are_rejected(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        EpochWeights(2, 0, np.array(bad))
