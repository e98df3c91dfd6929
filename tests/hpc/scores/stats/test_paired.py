"""Check the scales of comparisons, groups of events, and runs with one seed."""

import math
from dataclasses import replace

import numpy as np
import pytest

from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import MEAN, POOLED
from polarcast.hpc.scores.stats.paired import Sums, compared, effect_of, of_one
from polarcast.hpc.scores.sums import FAMILIES

PROTOCOL = Protocol("mm/h", (8, 8))


def records(events: int, factor: float = 1.0, bias: float = 0.0, seed: int = 0, groups: int | None = None) -> Records:
    """Events of very unequal error; `factor` scales the errors, `bias` is added to the forecast's rain."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(0, 1, events)
    shape = FAMILIES["continuous"].shape(PROTOCOL)
    moments = np.zeros((events, 1, 1, *shape))
    error = factor * size * rng.lognormal(0, 0.2, events)
    columns = (64.0, 10 * size, (10 + bias) * size, error, error**2, 5 * size**2, 5 * size**2, 5 * size**2)
    for column, values in enumerate(columns):
        moments[:, 0, 0, 0, column] = values
    counts = np.zeros((events, 1, 1, *FAMILIES["contingency"].shape(PROTOCOL)))
    counts[..., :] = np.stack([30 - 3 * factor + rng.integers(0, 5, events), rng.integers(5, 9, events),
                               rng.integers(5, 9, events), np.full(events, 20)], -1)[:, None, None, None]  # fmt: skip
    names = {e: f"day{e % groups}" for e in range(events)} if groups else None
    return Records.of_windows(PROTOCOL, np.arange(events), {"continuous": moments, "contingency": counts}, groups=names)


def sums(score: str, *runs: Records, trained: bool = False) -> Sums:
    return Sums.of(parse_score(score), runs, trained)


def test_errors_are_compared_as_ratios() -> None:
    radar, dualpol = records(60), records(60, factor=0.7)
    found = compared(sums("rmse", radar), sums("rmse", dualpol), POOLED)
    assert found.scale == "ratio"
    assert found.interval.value == pytest.approx(-0.3)
    assert found.interval.low <= -0.3 <= found.interval.high < 0
    assert found.by_event == pytest.approx(np.full(60, -0.3))


def test_a_comparison_of_mse_and_of_rmse_say_the_same() -> None:
    radar, dualpol = records(40), records(40, factor=0.9, seed=1)
    mse, rmse = (compared(sums(name, radar), sums(name, dualpol), POOLED) for name in ("paper_mse", "rmse"))
    assert rmse.interval.p_value == pytest.approx(mse.interval.p_value, rel=1e-6)
    assert rmse.sign_flip == mse.sign_flip
    assert 1 + mse.interval.value == pytest.approx((1 + rmse.interval.value) ** 2)
    assert 1 + mse.interval.low == pytest.approx((1 + rmse.interval.low) ** 2)


def test_exchanging_the_arms_inverts_a_ratio_and_negates_a_difference() -> None:
    first, second = records(40), records(40, factor=0.8, seed=3)
    there, back = (compared(sums("rmse", a), sums("rmse", b), POOLED) for a, b in ((first, second), (second, first)))
    assert (1 + there.interval.low) * (1 + back.interval.high) == pytest.approx(1)
    there, back = (
        compared(sums("csi@threshold=10", a), sums("csi@threshold=10", b), POOLED)
        for a, b in ((first, second), (second, first))
    )
    assert there.interval.low == pytest.approx(-back.interval.high)
    assert there.improved == pytest.approx(1 - back.improved)


def test_an_effect_of_the_detectable_size_is_as_likely_found_as_said() -> None:
    found = compared(sums("rmse", records(60)), sums("rmse", records(60, factor=0.9, seed=2)), POOLED)
    half = math.log1p(found.interval.high) - math.log1p(found.interval.value)
    assert math.log1p(found.detectable) == pytest.approx(-half * 2.8 / 1.96, rel=0.01)
    assert -1 < found.detectable < 0


@pytest.mark.parametrize("aggregation", [POOLED, MEAN])
def test_events_of_a_group_are_not_independent(aggregation: str) -> None:
    """Six copies of 20 events, as tiles of 20 days that show the same storm, have the interval of 20 events."""
    few = [records(20), records(20, factor=0.8, seed=1)]
    many = [_repeated(each, 6) for each in few]
    grouped = [replace(each, groups=np.array([f"{e % 20}" for e in range(120)])) for each in many]
    alone, naive, right = (
        compared(*(sums("rmse", each) for each in pair), aggregation) for pair in (few, many, grouped)
    )
    assert right.interval.value == pytest.approx(alone.interval.value)
    # Names of groups order them differently, and with that the draws.
    assert right.interval.high - right.interval.low == pytest.approx(alone.interval.high - alone.interval.low, rel=0.1)
    assert naive.interval.high - naive.interval.low < 0.6 * (right.interval.high - right.interval.low)
    assert right.sign_flip > naive.sign_flip
    assert right.heaviest == pytest.approx(alone.heaviest)


def _repeated(one: Records, times: int) -> Records:
    events = np.arange(times * len(one.events))
    return Records(one.protocol, events, {name: np.concatenate([of] * times) for name, of in one.sums.items()})


def test_one_run_of_a_trained_model_is_never_significant() -> None:
    radar, dualpol = records(60), records(60, factor=0.5)
    fixed = compared(sums("rmse", radar), sums("rmse", dualpol), POOLED)
    trained = compared(sums("rmse", radar, trained=True), sums("rmse", dualpol, trained=True), POOLED)
    assert fixed.is_significant
    assert not trained.is_significant
    assert trained.lacks_seeds
    assert trained.interval == fixed.interval
    several = [records(60, factor=f) for f in (0.5, 0.51, 0.52)]
    runs = [records(60, factor=f) for f in (1.0, 1.01, 0.99)]
    assert compared(sums("rmse", *runs, trained=True), sums("rmse", *several, trained=True), POOLED).is_significant


def test_an_error_has_an_interval_above_zero_and_a_perfect_score_is_zero() -> None:
    found = of_one(sums("rmse", records(12)), POOLED)
    assert 0 < found.interval.low < found.interval.value < found.interval.high
    assert of_one(sums("rmse", records(12, factor=0.0)), POOLED).interval.value == 0


def test_a_fair_crps_below_zero_keeps_its_value() -> None:
    protocol = Protocol("mm/h", (8, 8), members=2)
    parts = np.zeros((12, 1, 1, *FAMILIES["crps"].shape(protocol)))
    parts[..., :] = (64, 1, 2)
    one = sums("crps", Records.of_windows(protocol, np.arange(12), {"crps": parts}))
    assert of_one(one, POOLED).interval.value == pytest.approx(-1 / 64)
    assert math.isnan(of_one(one, POOLED).interval.low)
    assert math.isnan(compared(one, one, POOLED).interval.value)


def test_scores_with_their_best_value_inside_are_compared_by_difference() -> None:
    found = compared(sums("nb", records(30, bias=-1)), sums("nb", records(30, bias=0.5)), POOLED)
    assert found.scale == "distance"
    assert found.interval.value == pytest.approx(15)


def test_the_effect_alone_is_that_of_the_comparison() -> None:
    sides = sums("rmse", records(30), records(30, seed=4)), sums("rmse", records(30, factor=0.9, seed=5))
    for aggregation in (POOLED, MEAN):
        assert effect_of(*sides, aggregation) == pytest.approx(compared(*sides, aggregation).interval.value)


def test_the_limits_of_very_few_events_are_possible_values() -> None:
    few = [records(60, factor=f, seed=s) for f, s in ((1.0, 1), (0.8, 2))]
    for run in few:
        for of in run.sums.values():
            of[5:] = 0
    skill = compared(*(sums("csi@threshold=10", run) for run in few), POOLED)
    assert -1 <= skill.interval.low <= skill.interval.value <= skill.interval.high <= 1
    assert math.isnan(skill.detectable) or skill.detectable <= 1
    error = of_one(sums("rmse", few[0]), POOLED).interval
    assert math.isnan(error.low) or error.high / error.low <= 1e6
