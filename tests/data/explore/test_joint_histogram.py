"""Tests of quantiles at given ZH from a joint histogram, against those of the values themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.explore.joint_histogram import FEWEST_VALUES, JointHistogram


@given(seed=st.integers(0, 10_000), parts=st.integers(1, 4), share=st.floats(0.01, 0.99))
def test_quantiles_are_those_of_the_values_within_a_bin(seed: int, parts: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    zh, values = rng.uniform(-5, 75, 4000), rng.normal(0.5, 0.8, 4000)
    joint = JointHistogram(-15, 15, 0.02)
    for chosen in np.array_split(np.arange(4000), parts):
        joint.add(zh[chosen], values[chosen])
    inside = np.sort(values[(zh >= 20) & (zh < 30)])
    assert joint.number(20, 30) == len(inside)
    # Between the neighbouring order statistics, give or take a bin.
    place = share * len(inside)
    low, high = inside[max(int(place) - 1, 0)], inside[min(int(place) + 1, len(inside) - 1)]
    assert low - 0.02 <= joint.quantiles(20, 30, (share,))[0] <= high + 0.02
    assert joint.mean(20, 30) == pytest.approx(inside.mean(), abs=0.011)


def test_values_out_of_range_count_at_its_end_and_undefined_ones_not() -> None:
    joint = JointHistogram(-1, 1, 0.02)
    joint.add(np.full(1000, 25.0), np.repeat([-7.0, 0.0, 7.0, np.nan], 250))
    low, middle, high = joint.quantiles(20, 30, (0.1, 0.5, 0.9))
    assert joint.number(0, 70) == 750
    assert (low, middle, high) == pytest.approx((-1, 0, 1), abs=0.02)


def test_quantiles_of_few_values_are_undefined() -> None:
    joint = JointHistogram(-1, 1, 0.02)
    joint.add(np.full(FEWEST_VALUES - 1, 25.0), np.zeros(FEWEST_VALUES - 1))
    assert np.isnan(joint.quantiles(20, 30, (0.5,))).all()
    assert np.isnan(joint.mean(20, 30))
    joint.add(np.array([25.0]), np.array([0.0]))
    assert joint.quantiles(20, 30, (0.5,))[0] == pytest.approx(0, abs=0.02)
