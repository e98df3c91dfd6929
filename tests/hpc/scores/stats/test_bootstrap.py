"""Check bootstrap intervals by simulation, by property, and against a plain second implementation."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from polarcast.hpc.scores.stats.bootstrap import LEAST_P, heaviest_share, interval


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def difference(sums: np.ndarray) -> np.ndarray:
    return sums[..., 2] / sums[..., 3] - sums[..., 0] / sums[..., 1]


SEEDS = 4
"""Seeds of the draws in simulations: drawing them anew for each sample takes longer than the intervals."""


def skewed_events(rng: np.random.Generator, events: int) -> np.ndarray:
    """Draw events of very unequal weight whose expected ratio of sums is exp(0.18)."""
    weight = rng.lognormal(0, 0.6, events)
    return np.stack([weight * rng.lognormal(0, 0.6, events), weight], -1)[None]


def test_interval_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(0)
    trials = 400
    found = [interval([skewed_events(rng, 40)], ratio, draws=1000, seed=i % SEEDS) for i in range(trials)]
    covered = np.mean([i.low < np.exp(0.18) < i.high for i in found])
    # 95% ± 3 binomial standard errors; the upper bound rejects intervals that are too wide.
    assert 0.915 <= covered <= 0.985


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.5), (3, 0.5), (3, 0.05), (5, 0.2)])
def test_interval_of_a_few_seeds_has_its_nominal_coverage(seeds: int, spread: float) -> None:
    """The standard error over events is 0.2; the spread of seeds is a quarter of that to more than twice that."""
    rng = np.random.default_rng(seeds)
    found = []
    for trial in range(400):
        value = rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 1.1, 30) + rng.normal(0, 0.3, (seeds, 30))
        found.append(interval([np.stack([value, np.ones_like(value)], -1)], ratio, draws=500, seed=trial % SEEDS))
    covers = np.array([i.low < 0 < i.high for i in found])
    # At least nominal; errors over events and over seeds rarely coincide, so that coverage may be higher.
    assert 0.93 <= covers.mean() <= 0.995
    assert np.mean(covers == [i.p_value >= 0.05 for i in found]) > 0.99


def test_interval_of_a_normal_mean_equals_students_t() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, 200)
    found = interval([np.stack([values, np.ones(200)], -1)[None]], ratio, draws=20_000)
    half = 1.972 * values.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06 * half)


def test_paired_interval_is_narrower_than_the_spread_of_events() -> None:
    rng = np.random.default_rng(2)
    radar = skewed_events(rng, 50)[0]
    dualpol = radar * [0.95, 1] * np.exp(rng.normal(0, 0.01, (50, 1)) * [1, 0])
    paired = interval([radar[None], dualpol[None]], difference)
    assert paired.high < 0
    alone = interval([radar[None]], ratio)
    assert alone.high - alone.low > 5 * (paired.high - paired.low)


def test_seeds_of_two_arms_are_not_paired() -> None:
    """The order of an arm's runs says nothing: any order gives the same interval, and its spread counts."""
    radar = skewed_events(np.random.default_rng(5), 50)[0]
    runs = np.stack([radar * [factor, 1] for factor in (0.9, 1.0, 1.1)])
    alike, turned = interval([runs, runs], difference), interval([runs, runs[::-1]], difference)
    assert (alike.low, alike.high) == pytest.approx((turned.low, turned.high))
    same = interval([np.stack([radar] * 3)] * 2, difference)
    assert same.high - same.low < 1e-6
    assert alike.high - alike.low > 0.2
    assert alike.error == pytest.approx((alike.high - alike.low) / 2 / 1.96, rel=1e-3)


def test_arms_may_have_different_numbers_of_seeds() -> None:
    radar = skewed_events(np.random.default_rng(6), 50)
    five = np.concatenate([radar * [factor, 1] for factor in (0.8, 0.9, 1.0, 1.1, 1.2)])
    found = interval([radar, five], difference)
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.low < 0 < found.high


def test_welch_degrees_of_freedom_apply_without_a_spread_of_events() -> None:
    """Equal events leave Welch's two-sample t-interval of the seeds."""
    from scipy.stats import ttest_ind

    values = [np.array([1.0, 1.3, 0.9]), np.array([1.4, 2.4, 1.1, 1.9, 1.6])]
    arms = [np.stack([np.repeat(v[:, None], 20, 1), np.ones((len(v), 20))], -1) for v in values]
    found, welch = interval(arms, difference), ttest_ind(values[1], values[0], equal_var=False)
    limits = welch.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), rel=1e-6)
    assert found.p_value == pytest.approx(welch.pvalue, rel=1e-3)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio_of_errors", [0.0, 1.0, 3.0])
def test_intervals_over_seeds_and_events_have_their_nominal_coverage(seeds: int, ratio_of_errors: float) -> None:
    """Both arms have runs of their own; the spread of runs has none, as much or three times the error of the events."""
    rng, events, covered = np.random.default_rng([seeds, int(ratio_of_errors)]), 60, []
    spread = ratio_of_errors * math.sqrt(seeds / events / 2)
    for _ in range(300):
        event = rng.normal(0, 1, events)
        arms = []
        for _ in range(2):
            run, own = rng.normal(0, spread, (seeds, 1)), rng.normal(0, 0.5**0.5, events)
            value = event + run + own + rng.normal(0, 0.3, (seeds, events))
            arms.append(np.stack([value, np.ones_like(value)], -1))
        found = interval(arms, difference, draws=300)
        covered.append(found.low < 0 < found.high)
    assert 0.91 <= np.mean(covered) <= 0.99


def test_interval_equals_a_plain_second_implementation() -> None:
    """Loops over draws and events, with the gradient of a quotient written out."""
    rng = np.random.default_rng(7)
    sums = skewed_events(rng, 25)[0]
    draws = 400
    counts = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=draws)
    value = sums[:, 0].sum() / sums[:, 1].sum()

    def error_of(events: np.ndarray) -> float:
        top, bottom = events[:, 0].sum(), events[:, 1].sum()
        influence = events[:, 0] / bottom - events[:, 1] * top / bottom**2
        return float(np.std(influence, ddof=1) * np.sqrt(len(events)))

    pivots = []
    for count in counts:
        drawn = np.repeat(sums, count, axis=0)
        pivots.append(abs(drawn[:, 0].sum() / drawn[:, 1].sum() - value) / error_of(drawn))
    without = [np.delete(sums, i, 0) for i in range(25)]
    values = [w[:, 0].sum() / w[:, 1].sum() for w in without]
    jackknife = np.sqrt(24 / 25 * np.sum((np.array(values) - np.mean(values)) ** 2))
    half = np.quantile(pivots, 0.95) * jackknife
    found = interval([sums[None]], ratio, draws=draws)
    assert (found.low, found.high) == pytest.approx((value - half, value + half), rel=1e-4)


def test_p_values_go_below_the_resolution_of_the_draws() -> None:
    """Events that differ by Student's t have the p-value of a t-test, in orders of magnitude."""
    rng = np.random.default_rng(8)
    values = rng.normal(0, 1, 100)
    for shift in (0.3, 0.5, 0.6):
        moved = values - values.mean() + shift * values.std(ddof=1)
        found = interval([np.stack([moved, np.ones(100)], -1)[None]], ratio)
        expected = 2 * student.sf(shift * 10, 99)
        # The fitted tail is at least exponential, so that far out it errs towards larger p-values.
        assert -0.3 < math.log10(found.p_value) - math.log10(max(expected, LEAST_P)) < 1.3
    assert interval([np.stack([values + 50, np.ones(100)], -1)[None]], ratio).p_value == LEAST_P


def test_the_heaviest_group_is_that_of_the_sums_that_matter() -> None:
    sums = np.ones((10, 3))
    sums[3, 0] = 9  # half of the numerator
    sums[4, 2] = 1e6  # does not enter the ratio
    assert heaviest_share(sums, ratio) == pytest.approx(0.5)
    assert math.isnan(heaviest_share(np.zeros((4, 2)), lambda s: np.full(s.shape[:-1], np.nan)))


def test_difference_of_equal_arms_is_zero() -> None:
    radar = skewed_events(np.random.default_rng(3), 30)[0]
    found = interval([radar[None], radar[None]], difference)
    assert found.value == 0
    assert found.low <= 0 <= found.high


def test_interval_is_reproducible_and_invariant_to_scale() -> None:
    sums = skewed_events(np.random.default_rng(4), 30)
    assert interval([sums], ratio) == interval([sums], ratio)
    scaled, plain = interval([1000 * sums], ratio), interval([sums], ratio)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high), rel=1e-6)


def test_one_event_has_a_value_but_no_interval() -> None:
    found = interval([np.array([[[3.0, 2.0]]])], ratio)
    assert found.value == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_an_undefined_score_stays_undefined() -> None:
    with np.errstate(invalid="ignore"):
        found = interval([np.zeros((1, 10, 2))], ratio)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_seeds_that_disagree_widen_the_interval() -> None:
    sums = skewed_events(np.random.default_rng(5), 40)
    agreeing = np.concatenate([sums] * 3)
    disagreeing = np.concatenate([sums * [0.7, 1], sums, sums * [1.3, 1]])
    widths = [i.high - i.low for i in (interval([agreeing], ratio), interval([disagreeing], ratio))]
    assert widths[1] > 1.3 * widths[0]


@pytest.mark.parametrize("groups", [2, 3])
def test_two_or_three_groups_are_too_few_for_an_interval(groups: int) -> None:
    """Most or many draws hold a single group, whose standard error is 0."""
    rng = np.random.default_rng(groups)
    pair = [skewed_events(rng, groups), skewed_events(rng, groups)]
    found = interval(pair, difference)
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high, found.error, found.p_value]).all()
    assert np.isfinite(interval([skewed_events(rng, 4), skewed_events(rng, 4)], difference).low)


@pytest.mark.parametrize("contributing", [2, 3, 4])
def test_a_score_of_a_few_of_many_groups_has_no_interval(contributing: int) -> None:
    sums = skewed_events(np.random.default_rng(0), 60)
    sums[:, contributing:] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        found = interval([sums], ratio)
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_p_values_stop_at_the_share_of_draws_without_a_standard_error() -> None:
    sums = np.stack([np.linspace(1, 1.01, 4), np.ones(4)], -1)[None]
    assert interval([sums], ratio).p_value == pytest.approx(4 / 4**4, rel=0.3)


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_net_beside_a_baseline_without_seeds_has_no_fewer_than_nominal_coverage(seeds: int) -> None:
    """The standard error over seeds is 1.4 times that over events, and only one side has it."""
    rng = np.random.default_rng(seeds)
    found = []
    for trial in range(500):
        events = rng.normal(0, 1, 30)
        net = events + rng.normal(0, 0.25 * np.sqrt(seeds), (seeds, 1)) + rng.normal(0, 1, (seeds, 30)) / 3
        law = events[None] + rng.normal(0, 1, (1, 30))
        sides = [np.stack([10 + side, np.ones_like(side)], -1) for side in (law, net)]
        found.append(interval(sides, difference, draws=500, seed=trial % SEEDS))
    assert 0.93 <= np.mean([i.low < 0 < i.high for i in found]) <= 0.995
