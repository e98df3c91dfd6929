"""Shapley values: their four axioms, an independent definition, and intervals of the values of a score."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.scores.ratios import quotient
from polarcast.hpc.scores.stats.bootstrap import gradient_of, interval
from polarcast.hpc.scores.stats.shapley import (
    ShapleyStatistic,
    membership,
    shapley_statistics,
    shapley_values,
    shapley_weights,
)

Array = np.ndarray
players = st.integers(1, 5)


def game(seed: int, n: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=(2**n, *shape))


def by_orders(values: Array, n: int) -> Array:
    """Shapley's first definition: the mean gain of a player who joins in every order of all players."""
    total = np.zeros((n, *values.shape[1:]))
    for order in permutations(range(n)):
        coalition = 0
        for player in order:
            total[player] += values[coalition | 1 << player] - values[coalition]
            coalition |= 1 << player
    return total / factorial(n)


@given(st.integers(0, 99), players)
def test_values_are_mean_gains_over_all_orders(seed: int, n: int) -> None:
    values = game(seed, n, 3)
    np.testing.assert_allclose(shapley_values(values, n), by_orders(values, n), atol=1e-12)


@given(st.integers(0, 99), players)
def test_values_add_up(seed: int, n: int) -> None:
    values = game(seed, n, 2, 2)
    np.testing.assert_allclose(shapley_values(values, n).sum(0), values[-1] - values[0], atol=1e-12)


@given(st.integers(0, 99), st.integers(2, 5), st.data())
def test_interchangeable_players_have_one_value(seed: int, n: int, data: st.DataObject) -> None:
    first, second = data.draw(st.permutations(range(n)))[:2]
    values = game(seed, n)

    def swapped(coalition: int) -> int:
        one, two = coalition >> first & 1, coalition >> second & 1
        return coalition & ~(1 << first | 1 << second) | one << second | two << first

    both = (values + values[[swapped(coalition) for coalition in range(2**n)]]) / 2
    found = shapley_values(both, n)
    assert found[first] == pytest.approx(found[second], abs=1e-12)


@given(st.integers(0, 99), st.integers(2, 5), st.data())
def test_a_player_who_changes_nothing_has_exactly_0(seed: int, n: int, data: st.DataObject) -> None:
    dummy = data.draw(st.integers(0, n - 1))
    values = game(seed, n)[np.arange(2**n) & ~(1 << dummy)]
    assert shapley_values(values, n)[dummy] == 0


@given(st.integers(0, 99), players, st.floats(-5, 5))
def test_values_are_linear_in_the_game(seed: int, n: int, factor: float) -> None:
    one, two = game(seed, n), game(seed + 1000, n)
    apart = shapley_values(one, n) + factor * shapley_values(two, n)
    np.testing.assert_allclose(shapley_values(one + factor * two, n), apart, atol=1e-11)


def test_weights_are_those_of_the_values() -> None:
    for n in range(1, 7):
        values = game(n, n)
        np.testing.assert_allclose(shapley_weights(n) @ values, shapley_values(values, n), atol=1e-12)
        assert membership(n).sum() == n * 2 ** (n - 1)


def test_a_game_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 players have 8 coalitions"):
        shapley_values(np.zeros(4), 3)


def csi(sums: Array) -> Array:
    return quotient(sums[..., 0], sums.sum(-1))


def sums_of_groups(seed: int, n: int, seeds: int = 1, groups: int = 12) -> Array:
    return np.random.default_rng(seed).gamma(2, 50, size=(seeds, groups, 2**n * 3))


def test_the_value_of_a_pooled_score_is_that_of_its_coalitions() -> None:
    sums = sums_of_groups(0, 3)
    of_coalitions = csi(sums[0].sum(0).reshape(8, 3))
    for player, statistic in enumerate(shapley_statistics(csi, 3)):
        found = interval([sums], statistic)
        assert found.value == pytest.approx(shapley_values(of_coalitions, 3)[player], abs=1e-12)
        assert found.low < found.value < found.high


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_is_that_of_differences_along_each_sum(seeds: int) -> None:
    """The own gradient varies all coalitions at once; the result is the same."""
    sums, statistic = sums_of_groups(1, 3, seeds), ShapleyStatistic(csi, shapley_weights(3)[1])
    own, plain = interval([sums], statistic, draws=500), interval([sums], lambda s: statistic(s), draws=500)
    assert (own.value, own.low, own.high) == pytest.approx((plain.value, plain.low, plain.high), rel=1e-6)
    used = np.array([0, 5, 11])
    at = sums.mean(0)
    np.testing.assert_allclose(
        gradient_of(statistic, at, used), gradient_of(lambda s: statistic(s), at, used), rtol=1e-5
    )


def test_what_players_share_is_computed_once() -> None:
    sums, calls = sums_of_groups(2, 3), []

    def counted(of: Array) -> Array:
        calls.append(of.shape)
        return csi(of)

    together = [interval([sums], statistic, draws=200) for statistic in shapley_statistics(counted, 3)]
    shared, calls = len(calls), []
    apart = [interval([sums], ShapleyStatistic(counted, weights), draws=200) for weights in shapley_weights(3)]
    assert together == apart
    assert 3 * shared == len(calls)
