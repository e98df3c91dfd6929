"""Check significance tests and detectable effects against libraries and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, permutation_test

from polarcast.hpc.scores.stats.significance import (  # fmt: skip
    holm,
    minimum_detectable_effect,
    probability_of_improvement,
    sign_flip,
)

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_holm_equals_p_adjust_of_r() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_values)
def test_adjusted_p_values_keep_order_and_do_not_exceed_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(a <= min(1, len(p) * b) + 1e-12 for a, b in zip(adjusted, p, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)


def test_holm_does_not_count_nan_as_a_test() -> None:
    adjusted = holm([0.02, math.nan, 0.03])
    assert adjusted[0] == pytest.approx(0.04)
    assert math.isnan(adjusted[1])


def test_holm_controls_the_family_wise_error_rate() -> None:
    rng = np.random.default_rng(0)
    false = [min(holm(rng.uniform(size=8).tolist())) <= 0.05 for _ in range(4000)]
    assert np.mean(false) == pytest.approx(0.05, abs=0.012)


def test_minimum_detectable_effect_is_detected_with_the_requested_power() -> None:
    rng = np.random.default_rng(1)
    effect = minimum_detectable_effect(0.3, level=0.95, power=0.8)
    found = np.abs(rng.normal(effect, 0.3, 20_000)) > 0.3 * norm.ppf(0.975)
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_probability_of_improvement_is_antisymmetric(values: list[float]) -> None:
    d = np.array(values)
    assert probability_of_improvement(d) + probability_of_improvement(-d) == pytest.approx(1)


def test_probability_of_improvement_is_nan_without_events_and_counts_ties_half() -> None:
    assert math.isnan(probability_of_improvement(np.array([np.nan])))
    assert probability_of_improvement(np.array([1.0, 0.0, np.nan, -2.0, 3.0])) == pytest.approx(2.5 / 4)


def effect_of_means(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return second[..., 0] / second[..., 1] - first[..., 0] / first[..., 1]


def with_weight(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones_like(values)], -1)


@pytest.mark.parametrize("events", [8, 40])
def test_sign_flip_equals_the_permutation_test_of_scipy(events: int) -> None:
    rng = np.random.default_rng(events)
    first, second = rng.gamma(1, 1, events), rng.gamma(1, 1, events) + 0.4
    theirs = permutation_test(
        (second - first,), np.mean, permutation_type="samples", n_resamples=100_000, rng=np.random.default_rng(0)
    )
    ours = sign_flip(with_weight(first), with_weight(second), effect_of_means, draws=50_000)
    assert ours == pytest.approx(theirs.pvalue, rel=1e-9 if events == 8 else 0.1)


@pytest.mark.parametrize("events", [20, 60])
def test_sign_flip_has_its_nominal_size_for_heavy_tailed_errors(events: int) -> None:
    """A pooled error has no series in time: the test of Hering & Genton rejected 9 to 14% here."""
    rng, rejected = np.random.default_rng(events), []
    for _ in range(1500):
        size = rng.lognormal(0, 1.5, events)
        arms = [np.stack([size * rng.lognormal(0, 0.5, events), np.full(events, 100.0)], -1) for _ in range(2)]
        p = sign_flip(*arms, lambda a, b: np.log(b[..., 0]) - np.log(a[..., 0]), draws=400)
        rejected.append(p < 0.05)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.02)


def test_sign_flip_tests_the_pooled_statistic() -> None:
    """Events that gain little outvote one that loses much in a mean of events, not in a pooled sum."""
    first, second = np.full((30, 2), 1.0), np.full((30, 2), 1.0)
    second[:, 0] = 0.98
    first[0], second[0] = [50.0, 1.0], [51.5, 1.0]
    assert sign_flip(first, second, effect_of_means) > 0.3


def test_sign_flip_without_groups_or_effect_is_nan_or_one() -> None:
    values = np.random.default_rng(0).gamma(1, 1, (10, 2))
    assert math.isnan(sign_flip(values[:1], values[:1], effect_of_means))
    assert sign_flip(values, values, effect_of_means) == 1
    assert math.isnan(sign_flip(values * [1, 0], values, lambda a, b: np.full(a.shape[:-1], np.nan)))
