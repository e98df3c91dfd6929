"""Power and needed groups of events, against formulas, `interval` and simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest

from polarcast.hpc.scores.stats.bootstrap import interval, widths_of
from polarcast.hpc.scores.stats.power import (
    FEWEST,
    Spread,
    detectable_effect,
    groups_needed,
    power_at,
    spread_of,
)
from polarcast.hpc.scores.stats.significance import minimum_detectable_effect
from tests.support.power_simulation import CASES, MadeUp, difference_of_means, found_share, made_up

EVENTS_ONLY = Spread(40, (1, 1), 1.0, (0.0, 0.0), (0.0, 0.0))
WITH_SEEDS = Spread(40, (3, 3), 1.0, (0.02, 0.02), (0.1, 0.1))
RULED_BY_SEEDS = Spread(40, (3, 3), 0.1, (0.5, 0.5), (0.0, 0.0))


def sample(spread: Spread, groups: int, seeds: int, seed: int = 0, kind: str = "normal") -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return MadeUp(kind, spread).draw(rng, groups, spread.runs_of(seeds), effect=0.3)


def test_without_seeds_it_is_the_formula_of_a_normal_test() -> None:
    """g = (z(0.975) + z(0.8))² σ² / δ², and two or three more for the degrees of freedom."""
    for effect in (0.1, 0.2, 0.4):
        assert groups_needed(EVENTS_ONLY, effect).groups == pytest.approx(7.849 / effect**2, rel=0.01, abs=3)


@pytest.mark.parametrize("freedom", [6, 20, 100])
def test_power_of_events_is_that_of_the_noncentral_t(freedom: int) -> None:
    from scipy.stats import nct, t

    effect = 3.0 / math.sqrt(freedom + 1)
    exact = nct.sf(t.isf(0.025, freedom), freedom, 3.0)
    assert power_at(EVENTS_ONLY, effect, freedom + 1) == pytest.approx(exact, abs=0.01)


def test_variance_components_are_found_again() -> None:
    true = Spread(0, (20, 20), 1.0, (0.2, 0.4), (0.3, 0.1))
    found = spread_of(sample(true, 2000, 20), difference_of_means, draws=500)
    assert found is not None
    assert found.of_groups == pytest.approx(1, rel=0.15)
    assert found.of_both == pytest.approx((0.3, 0.1), rel=0.1)
    assert np.mean(found.of_seeds) == pytest.approx(0.3, rel=0.5)
    assert found.heaviness == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_components_return_the_variances_of_the_interval(seeds: int) -> None:
    arms = sample(WITH_SEEDS, 30, seeds)
    found, widths = spread_of(arms, difference_of_means), widths_of(arms, difference_of_means)
    assert found is not None
    assert widths is not None
    assert found.events_variance(30, found.runs) == pytest.approx(widths.error**2)
    assert found.seed_variances(30, found.runs) == pytest.approx(list(widths.seed_variances))


@pytest.mark.parametrize(("spread", "seeds", "tolerance"), [(EVENTS_ONLY, 1, 0.02), (WITH_SEEDS, 8, 0.05)])
def test_the_detectable_effect_is_that_of_tables(spread: Spread, seeds: int, tolerance: float) -> None:
    """Tables take the interval's width as known, which is right without seeds and with many."""
    arms = sample(spread, 60, seeds)
    found = spread_of(arms, difference_of_means)
    assert found is not None
    of_table = minimum_detectable_effect(interval(arms, difference_of_means).error)
    effect = detectable_effect(found, 60, seeds)
    assert effect == pytest.approx(of_table, rel=tolerance)
    assert power_at(found, effect, 60, seeds) == pytest.approx(0.8, abs=1e-3)
    assert groups_needed(found, effect, seeds).groups == pytest.approx(60, abs=1)


def test_the_number_of_groups_is_the_least_that_suffices() -> None:
    for seeds in (3, 5):
        groups = groups_needed(WITH_SEEDS, 0.5, seeds).groups
        assert power_at(WITH_SEEDS, 0.5, groups, seeds) >= 0.8
        assert power_at(WITH_SEEDS, 0.5, groups - 2, seeds) < 0.8


def test_more_seeds_need_fewer_groups_and_smaller_effects_more() -> None:
    by_seeds = [groups_needed(WITH_SEEDS, 0.5, seeds).groups for seeds in (2, 3, 5, 8)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    by_effect = [groups_needed(WITH_SEEDS, effect, 5).groups for effect in (0.4, 0.6, 0.9)]
    assert by_effect == sorted(by_effect, reverse=True)


def test_no_number_of_groups_suffices_where_seeds_rule() -> None:
    assert RULED_BY_SEEDS.share_of_seeds > 0.9
    assert groups_needed(RULED_BY_SEEDS, 0.5, 3).groups == math.inf
    assert math.isfinite(groups_needed(RULED_BY_SEEDS, 3.0, 8).groups)


def test_one_seed_is_no_test() -> None:
    assert power_at(WITH_SEEDS, 100.0, 1000, 1) == 0
    assert groups_needed(WITH_SEEDS, 100.0, 1).groups == math.inf
    assert detectable_effect(WITH_SEEDS, 1000, 1) == math.inf


def test_huge_effects_need_the_fewest_groups() -> None:
    assert groups_needed(EVENTS_ONLY, 50.0).groups == FEWEST


def test_the_unit_does_not_matter() -> None:
    scaled = replace(WITH_SEEDS, of_groups=9.0, of_seeds=(0.18, 0.18), of_both=(0.9, 0.9))
    assert groups_needed(scaled, 1.5, 5) == groups_needed(WITH_SEEDS, 0.5, 5)


def test_the_range_contains_the_number_and_narrows_with_groups_and_seeds() -> None:
    few, many = (groups_needed(replace(WITH_SEEDS, groups=g, runs=(k, k)), 0.6, 5) for g, k in ((15, 3), (400, 12)))
    for need in (few, many):
        assert need.low <= need.groups <= need.high
    assert many.high - many.low < few.high - few.low


def test_heavy_tails_need_more_groups() -> None:
    heavy = replace(EVENTS_ONLY, heaviness=1.2, kurtosis=20.0)
    assert groups_needed(heavy, 0.3).groups > 1.05 * groups_needed(EVENTS_ONLY, 0.3).groups


def test_equal_sides_and_single_groups_have_no_spread() -> None:
    arm = sample(EVENTS_ONLY, 30, 1)[0]
    assert spread_of([arm, arm], difference_of_means) is None
    assert spread_of([arm[:, :1], arm[:, :1]], difference_of_means) is None


@pytest.mark.parametrize(("kind", "case", "plan"), [
    ("normal", 0, 0), ("normal", 1, 0), ("normal", 3, 1), ("t5", 2, 1), ("lognormal", 0, 0), ("lognormal", 1, 1),
])  # fmt: skip
def test_the_recommended_numbers_have_the_power(kind: str, case: int, plan: int) -> None:
    """A fast version of docs/guides/power.md: the share of samples whose interval excludes zero is about 80%."""
    one, (seeds, effect) = made_up(kind, CASES[case]), CASES[case][-1][plan]
    groups, runs = int(groups_needed(one.spread, effect, seeds).groups), one.spread.runs_of(seeds)
    share = found_share(lambda rng: (one.draw(rng, groups, runs, effect), difference_of_means), trials=160)
    print(f"{kind}, {CASES[case][0]}, {seeds} seeds, {groups} groups: {share:.1%}")
    assert share == pytest.approx(0.8, abs=0.1)


def test_the_power_of_a_spread_estimated_from_few_groups_is_about_right_on_average() -> None:
    """Pilots of 40 groups: the groups that they recommend have 80% power in the middle."""
    found = []
    for seed in range(30):
        spread = spread_of(sample(EVENTS_ONLY, 40, 1, seed, "t5"), difference_of_means, draws=300)
        assert spread is not None
        found.append(groups_needed(spread, 0.4))
    true = groups_needed(EVENTS_ONLY, 0.4).groups
    assert np.median([need.groups for need in found]) == pytest.approx(true, rel=0.25)
    assert np.mean([need.low <= true <= need.high for need in found]) >= 0.6
