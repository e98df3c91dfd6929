"""Check significance tests and detectable effects against libraries and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from polarcast.hpc.scores.stats.significance import (  # fmt: skip
    hering_genton,
    holm,
    minimum_detectable_effect,
    probability_of_improvement,
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


@pytest.mark.parametrize(("n", "memory"), [(40, 0.0), (120, 0.6), (300, 0.9)])
def test_hering_genton_equals_that_of_the_scores_library(n: int, memory: float) -> None:
    import xarray as xr
    from scores.stats.statistical_tests import diebold_mariano

    d = series(np.random.default_rng(n), n, memory) + 0.2
    table = xr.DataArray(d[None], dims=["pair", "time"], coords={"pair": [0], "h": ("pair", [1])})
    theirs = diebold_mariano(table, "pair", "h", method="HG", statistic_distribution="normal")
    statistic, p = hering_genton(d)
    assert statistic == pytest.approx(theirs["dm_test_stat"].item(), rel=0.02)
    chance = theirs["confidence_gt_0"].item()
    assert p == pytest.approx(2 * min(chance, 1 - chance), abs=0.02)


def series(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    values = np.zeros(n)
    for t in range(1, n):
        values[t] = memory * values[t - 1] + rng.normal()
    return values


def test_hering_genton_rarely_rejects_under_the_null_hypothesis() -> None:
    rng = np.random.default_rng(3)
    wrong = [hering_genton(series(rng, 120, 0.4))[1] < 0.05 for _ in range(300)]
    assert np.mean(wrong) < 0.12


def test_hering_genton_of_few_or_equal_values_is_nan() -> None:
    assert all(math.isnan(x) for x in hering_genton(np.array([1.0, 2.0, 3.0])))
    assert all(math.isnan(x) for x in hering_genton(np.ones(50)))
