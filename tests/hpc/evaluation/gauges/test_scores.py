"""Scores at gauges by hand, and intervals over days and stations by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from polarcast.hpc.evaluation.gauges.pairs import PIXEL
from polarcast.hpc.evaluation.gauges.run import score_pairs
from polarcast.hpc.evaluation.gauges.scores import SCORES, compare, score, strata
from polarcast.hpc.evaluation.gauges.two_way import BOTH, DAYS, NONE, STATIONS, Crossed, crossed_interval
from polarcast.hpc.scores.ratios import Array, quotient
from tests.support.gauge_pairs import pairs_with


def rain(stations: int, n: int, seed: int) -> Array:
    return np.random.default_rng(seed).gamma(0.5, 4.0, (stations, n))


def test_values_are_those_of_the_definitions() -> None:
    gauge = rain(6, 40, 1)
    estimate = 0.7 * gauge + np.random.default_rng(2).gamma(1, 0.3, gauge.shape)
    pairs = pairs_with(gauge, {"r": estimate}, 8)
    groups = Crossed.of(pairs)
    found = {name: score(pairs, "r", PIXEL, name, groups).interval for name in SCORES}
    o, f = gauge.ravel(), estimate.ravel()
    r = np.corrcoef(o, f)[0, 1]
    expected = {
        "bias": f.sum() / o.sum(), "mae": np.abs(f - o).mean(), "rmse": np.sqrt(((f - o) ** 2).mean()), "cc": r,
        "kge": 1 - math.sqrt((r - 1) ** 2 + (f.std() / o.std() - 1) ** 2 + (f.mean() / o.mean() - 1) ** 2),
    }  # fmt: skip
    for mm in (0.5, 1, 5, 10):
        hits = ((f >= mm) & (o >= mm)).sum()
        expected[f"csi@{mm:g}"] = hits / ((f >= mm) | (o >= mm)).sum()
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-9), name
        # Of 10 mm there are too few hits for an interval.
        assert name == "csi@10" or found[name].low < value < found[name].high, name


def test_errors_of_all_seeds_count() -> None:
    gauge = rain(6, 40, 1)
    two = np.stack([gauge + 1, gauge - 3])
    pairs = pairs_with(gauge, {"r": two}, 8)
    found = score(pairs, "r", PIXEL, "mae", Crossed.of(pairs)).interval
    assert found.value == pytest.approx(2.0)
    assert found.high - found.low > 1  # the seeds differ by 2 mm, the pairs by nothing


def test_without_a_hit_no_interval_claims_to_be_certain() -> None:
    pairs = pairs_with(rain(6, 40, 1), {"r": np.zeros((6, 40))}, 8)
    found = score(pairs, "r", PIXEL, "csi@5", Crossed.of(pairs)).interval
    assert found.value == 0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("stations", "n", "over"), [(8, 64, BOTH), (8, 8, STATIONS), (1, 96, DAYS), (2, 16, NONE), (2, 96, DAYS)]
)
def test_groups_that_are_too_few_are_left_out(stations: int, n: int, over: str) -> None:
    gauge = rain(stations, n, 3)
    pairs = pairs_with(gauge, {"r": gauge * 1.1 + rain(stations, n, 4)}, 8)
    found = score(pairs, "r", PIXEL, "mae", Crossed.of(pairs))
    assert found.over == over
    assert math.isfinite(found.interval.low) == (over != NONE)


@pytest.mark.parametrize(("day_sd", "station_sd"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (0.0, 0.0)])
def test_intervals_cover_the_mean_of_crossed_effects(day_sd: float, station_sd: float) -> None:
    """Of 200 samples of 10 days and 12 stations, 95% intervals miss as rarely as chance allows.

    Limits are the 0.1% and 99.9% points of the binomial distribution, with 93% to 99% of coverage: with no effects, the
    variance is at least that of either grouping, and is estimated with noise.
    """
    rng, days, stations, per, trials = np.random.default_rng(7), 10, 12, 4, 200
    pairs = pairs_with(np.ones((stations, days * per)), {"r": np.ones((stations, days * per))}, per)
    groups, covered = Crossed.of(pairs), 0
    for _ in range(trials):
        day = np.repeat(day_sd * rng.standard_normal(days), per)
        value = 5 + day + station_sd * rng.standard_normal((stations, 1)) + rng.standard_normal((stations, days * per))
        terms = np.stack([np.ones(value.size), value.ravel()], -1)[None]
        found = crossed_interval([terms], mean_of, groups, draws=200)
        assert found.over == BOTH
        covered += found.interval.low <= 5 <= found.interval.high
    assert stats.binom.ppf(0.001, trials, 0.93) <= covered <= stats.binom.ppf(0.999, trials, 0.99)


def mean_of(sums: Array) -> Array:
    return quotient(sums[..., 1], sums[..., 0])


def test_pairs_are_not_independent() -> None:
    """With an effect of the day, an interval over days and stations is much wider than one of independent pairs."""
    rng = np.random.default_rng(1)
    gauge = rain(12, 80, 5)
    estimate = gauge + np.repeat(rng.standard_normal(10), 8) + 3
    pairs = pairs_with(gauge, {"r": estimate}, 8)
    found = score(pairs, "r", PIXEL, "mae", Crossed.of(pairs)).interval
    alone = np.abs(estimate - gauge).std() / math.sqrt(estimate.size)
    assert found.high - found.low > 3 * 2 * 1.96 * alone


def test_comparisons_are_paired() -> None:
    """An error that both estimators share cancels; a common factor is found exactly."""
    gauge, shared = rain(10, 80, 6), 2 * np.random.default_rng(8).standard_normal((10, 80))
    pairs = pairs_with(gauge, {"a": gauge + shared, "b": gauge + 0.8 * shared, "c": gauge + shared}, 8)
    groups = Crossed.of(pairs)
    better, same = (compare(pairs, "a", name, groups).scores for name in ("b", "c"))
    assert better["rmse"].interval.value == pytest.approx(-0.2)
    assert better["rmse"].interval.high < 0
    assert better["mae"].interval.value == pytest.approx(-0.2)
    assert same["rmse"].interval.value == same["cc"].interval.value == 0


def test_classes_have_their_own_pairs() -> None:
    gauge = rain(6, 40, 1)
    pairs = pairs_with(gauge, {"r": 2 * gauge}, 8)
    found = strata(pairs, pairs.range_km, (0, 30, 60, 90, 120, math.inf), "km", ("bias",), ["r"])
    assert [(s.name, s.pairs) for s in found] == [("0–30 km", 80), ("30–60 km", 40), ("60–90 km", 80),
                                                  ("90–120 km", 40)]  # fmt: skip
    assert all(s.scores["r"]["bias"].interval.value == pytest.approx(2) for s in found)
    amounts = score_pairs(pairs, 1.0).by_amount
    assert sum(s.pairs for s in amounts) == 240
    expected = ((gauge >= 1) & (gauge < 5)).sum()
    assert next(s.pairs for s in amounts if s.name == "1–5 mm") == expected


def test_products_of_several_radars_have_no_distances() -> None:
    gauge = rain(6, 40, 1)
    pairs = pairs_with(gauge, {"r": gauge + 1}, 8)
    pairs.range_km[:] = np.nan
    assert score_pairs(pairs, 1.0).by_range == []
