"""Changes of a gauge's intervals: longer ones, and amounts that were spread over shorter ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.gauges.gauge import Gauge, accumulated, rebuilt_blocks

START = np.datetime64("2020-06-01T12:00:00")


def gauge(mm: object, minutes: float = 5, start: np.datetime64 = START) -> Gauge:
    amounts = np.asarray(mm, np.float64)
    ends = start + np.arange(1, len(amounts) + 1) * np.timedelta64(round(60 * minutes), "s")
    return Gauge.of("G", 57.7, 12.0, ends, np.full(len(amounts), minutes), amounts)


@given(st.lists(st.floats(0, 50), min_size=1, max_size=60), st.sampled_from([10, 15, 30, 60]))
def test_longer_intervals_have_the_sums_of_those_that_fill_them(mm: list[float], minutes: int) -> None:
    summed = accumulated(gauge(mm), minutes)
    per = minutes // 5
    np.testing.assert_allclose(summed.mm, np.reshape(mm[: len(mm) // per * per], (-1, per)).sum(1))
    assert (np.diff(summed.ends) == np.timedelta64(minutes, "m")).all()
    assert (summed.ends.astype(np.int64) % (60 * minutes) == 0).all()


def test_a_gap_or_a_flag_leaves_the_longer_interval_out() -> None:
    mm = np.ones(36)
    mm[3] = np.nan
    flagged = gauge(mm).flagged(np.arange(36) == 14, "range")
    assert accumulated(flagged, 60).ends.tolist() == [np.datetime64("2020-06-01T15:00:00").item()]


def test_intervals_across_the_ends_of_longer_ones_are_not_divided() -> None:
    shifted = gauge(np.ones(20), 15, START + np.timedelta64(5, "m"))
    assert len(accumulated(shifted, 60)) == 0


def test_spread_amounts_are_summed_again() -> None:
    true = np.array([0, 0.1, 0.6, 1.9, 1.6, 0.3, 0.3, 0.2])
    spread = gauge(np.concatenate([[0.0], np.repeat(true / 3, 3), [0.07]]))
    found, blocks = rebuilt_blocks(spread)
    assert blocks == 3
    np.testing.assert_allclose(found.mm, true)
    assert found.minutes.tolist() == [15.0] * 8
    assert found.ends[0] == START + np.timedelta64(20, "m")


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60))
def test_amounts_of_tips_are_left_alone(tips: list[int]) -> None:
    """Runs that do not begin at multiples of their length, or of several lengths, are rain."""
    mm = 0.2 * np.array([*tips, 5, 4, 5])
    found, blocks = rebuilt_blocks(gauge(mm))
    assert blocks == 1
    np.testing.assert_array_equal(found.mm, mm)
