"""Quality control: each rule finds what it is for, and leaves rain alone."""

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from polarcast.data.gauges.gauge import RANGE, SPIKE, STUCK, ZERO, Gauge
from polarcast.data.gauges.quality import check_quality, quality_table

HOURS, PER = 12, 12
Real = npt.NDArray[np.float64]


def network(mm: Real) -> list[Gauge]:
    """Return gauges 3 km apart, with 5-minute amounts (gauges, n)."""
    ends = np.datetime64("2020-06-01T12:00:00") + np.arange(1, mm.shape[1] + 1) * np.timedelta64(5, "m")
    minutes = np.full(mm.shape[1], 5.0)
    return [Gauge.of(f"G{i}", 57.7 + 0.027 * i, 12.0, ends, minutes, row) for i, row in enumerate(mm)]


@pytest.fixture
def rain() -> Real:
    """Tips of 0.2 mm of rain that all gauges share, with differences between them, (5, n)."""
    rng = np.random.default_rng(0)
    intensity = 0.4 * np.abs(np.sin(np.arange(HOURS * PER) / 25)) * rng.lognormal(0, 0.4, (5, HOURS * PER))
    return 0.2 * np.diff(np.floor(np.cumsum(intensity, 1) / 0.2), axis=1, prepend=0)


def flags(mm: Real) -> npt.NDArray[np.str_]:
    return np.stack([gauge.flags for gauge in check_quality(network(mm))])


def test_rain_is_left_alone(rain: Real) -> None:
    assert (flags(rain) == "").all()


def test_impossible_amounts(rain: Real) -> None:
    rain[1, 7], rain[2, 9] = 400.0, -0.2
    expected = np.full(rain.shape, "", "<U16")
    expected[1, 7] = expected[2, 9] = RANGE
    np.testing.assert_array_equal(flags(rain), expected)


def test_a_value_that_is_stuck(rain: Real) -> None:
    rain[3, 20:32] = 1.7
    found = flags(rain)
    assert (found[3, 20:32] == STUCK).all()
    assert (np.delete(found, np.s_[20:32], 1) == "").all()


def test_single_tips_in_even_rain_are_not_stuck() -> None:
    even = np.full((4, 30), 0.2)
    even[:, ::7] = 0.4
    assert (flags(even) == "").all()


def test_zeros_amid_rain(rain: Real) -> None:
    rain[[0, 1, 3, 4], 24:36] += 0.6
    rain[2, 24:36] = 0
    found = flags(rain)
    assert (found[2, 24:36] == ZERO).all()
    assert (found == ZERO).sum() == 12
    dry = rain.copy()
    dry[:, 24:36] = 0
    assert (flags(dry) == "").all()


def test_heavy_rain_amid_none(rain: Real) -> None:
    rain[:, 48:60] = 0
    rain[4, 50] = 30.0
    found = flags(rain)
    assert (found[4, 48:60] == SPIKE).all()
    assert (found == SPIKE).sum() == 12


def test_too_few_neighbors_are_no_evidence(rain: Real) -> None:
    few = rain[:3].copy()
    few[:, 48:60] = 0
    few[2, 50] = 30.0
    assert (flags(few) == "").all()


def test_an_old_record_among_new_ones_costs_no_memory(rain: Real) -> None:
    """Sums of hours are made for the hours that have rain, not for all of a century between them."""
    rain[:, 48:60] = 0
    rain[4, 50] = 30.0
    gauges = network(rain)
    old = Gauge.of(
        "G0", gauges[0].latitude, 12.0, np.array(["1905-01-01T00:05"], "M8[s]"), np.array([5.0]), np.zeros(1)
    )
    ends, minutes, mm = (np.concatenate([getattr(g, n) for g in (old, gauges[0])]) for n in ("ends", "minutes", "mm"))
    gauges[0] = Gauge.of("G0", old.latitude, 12.0, ends, minutes, mm)
    tracemalloc.start()
    found = check_quality(gauges)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert [int((gauge.flags == SPIKE).sum()) for gauge in found] == [0, 0, 0, 0, 12]


def test_the_table_counts(rain: Real) -> None:
    rain[1, 7], rain[0, 3] = 400.0, np.nan
    rows = quality_table(check_quality(network(rain)))
    assert rows[1]["flagged"][RANGE] == 1
    assert rows[0]["flagged"]["missing"] == 1
    assert [row["used"] for row in rows] == [143, 143, 144, 144, 144]
    assert rows[2]["total_mm"] == pytest.approx(rain[2].sum(), abs=1e-3)
    assert (rows[0]["from"], rows[0]["to"]) == ("2020-06-01T12:00:00", "2020-06-02T00:00:00")
