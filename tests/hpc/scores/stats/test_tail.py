"""Check fitted tails against scipy's distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import genpareto, norm, t

from polarcast.hpc.scores.stats.tail import upper_tail


@pytest.mark.parametrize("shape", [0.0, 0.2, 0.4])
def test_parameters_of_a_pareto_distribution_are_found(shape: float) -> None:
    tail = upper_tail(genpareto(shape, scale=2).rvs(200_000, random_state=np.random.default_rng(0)))
    assert tail.shape == pytest.approx(shape, abs=0.06)
    # Exceedances of a Pareto distribution are Pareto distributed, with a scale that grows with the start.
    assert tail.scale == pytest.approx(2 + shape * tail.start, rel=0.08)


@pytest.mark.parametrize(("distribution", "tolerance"), [(norm(), 0.18), (t(20), 0.15), (t(5), 0.25)])
def test_quantiles_far_beyond_the_draws(distribution: object, tolerance: float) -> None:
    draws = [np.abs(distribution.rvs(5000, random_state=np.random.default_rng(i))) for i in range(20)]  # type: ignore[attr-defined]
    found = np.median([upper_tail(sample).quantile(np.array([1e-3, 1e-5])) for sample in draws], 0)
    expected = distribution.isf(np.array([1e-3, 1e-5]) / 2)  # type: ignore[attr-defined]
    assert found == pytest.approx(expected, rel=tolerance)


@given(st.integers(2, 3000), st.integers(0, 2**32 - 1))
def test_quantiles_fall_with_the_probability(size: int, seed: int) -> None:
    tail = upper_tail(np.random.default_rng(seed).standard_cauchy(size))
    values = tail.quantile(np.geomspace(1e-9, 1, 300))
    assert np.isfinite(values).all()
    assert (np.diff(values) <= 0).all()


def test_equal_draws_have_one_quantile() -> None:
    assert upper_tail(np.full(5000, 3.0)).quantile(np.array([1e-6, 0.05, 0.5])).tolist() == [3.0, 3.0, 3.0]


def test_infinite_draws_have_their_share_of_the_quantiles() -> None:
    draws = np.concatenate([np.random.default_rng(0).exponential(size=4900), np.full(100, np.inf)])
    tail = upper_tail(draws)
    assert tail.infinite == pytest.approx(0.02)
    assert np.isinf(tail.quantile(np.array([1e-6, 0.01, 0.02]))).all()
    np.testing.assert_allclose(tail.quantile(np.array([0.1, 0.5])), np.quantile(draws, [0.9, 0.5]), rtol=0.01)
    assert np.isinf(upper_tail(np.full(10, np.inf)).quantile(0.5))
