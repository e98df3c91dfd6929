import numpy as np
import pytest

from polarcast.hpc.scores.stats.bootstrap import interval


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def difference(sums: np.ndarray) -> np.ndarray:
    return sums[..., 2] / sums[..., 3] - sums[..., 0] / sums[..., 1]


def skewed_events(rng: np.random.Generator, events: int) -> np.ndarray:
    """Draw events of very unequal weight whose expected ratio of sums is exp(0.18)."""
    weight = rng.lognormal(0, 0.6, events)
    return np.stack([weight * rng.lognormal(0, 0.6, events), weight], -1)[None]


def test_interval_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(0)
    trials = 400
    found = [interval(skewed_events(rng, 40), ratio, draws=1000, seed=i) for i in range(trials)]
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
        found.append(interval(np.stack([value, np.ones_like(value)], -1), ratio, draws=500, seed=trial))
    covers = np.array([i.low < 0 < i.high for i in found])
    # At least nominal; errors over events and over seeds rarely coincide, so that coverage may be higher.
    assert 0.93 <= covers.mean() <= 0.995
    assert np.mean(covers == [i.p_value >= 0.05 for i in found]) > 0.99


def test_interval_of_a_normal_mean_equals_students_t() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, 200)
    found = interval(np.stack([values, np.ones(200)], -1)[None], ratio, draws=20_000)
    half = 1.972 * values.std(ddof=1) / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06 * half)


def test_paired_interval_is_narrower_than_the_spread_of_events() -> None:
    rng = np.random.default_rng(2)
    radar = skewed_events(rng, 50)[0]
    dualpol = radar * [0.95, 1] * np.exp(rng.normal(0, 0.01, (50, 1)) * [1, 0])
    paired = interval(np.concatenate([radar, dualpol], -1)[None], difference)
    assert paired.high < 0
    alone = interval(radar[None], ratio)
    assert alone.high - alone.low > 5 * (paired.high - paired.low)


def test_seeds_that_cancel_out_in_every_event_widen_the_interval() -> None:
    radar = skewed_events(np.random.default_rng(5), 50)[0]
    arms = [np.concatenate([radar, radar * [factor, 1]], -1) for factor in (0.9, 1.1, 1.0)]
    agree, disagree = interval(np.stack([arms[2]] * 3), difference), interval(np.stack(arms), difference)
    assert disagree.low < 0 < disagree.high
    assert disagree.high - disagree.low > 0.1
    assert agree.high - agree.low < 1e-6
    assert disagree.error == pytest.approx((disagree.high - disagree.low) / 2 / 1.96, rel=1e-3)


def test_difference_of_equal_arms_is_zero() -> None:
    radar = skewed_events(np.random.default_rng(3), 30)[0]
    found = interval(np.concatenate([radar, radar], -1)[None], difference)
    assert found.value == 0
    assert found.low <= 0 <= found.high


def test_interval_is_reproducible_and_invariant_to_scale() -> None:
    sums = skewed_events(np.random.default_rng(4), 30)
    assert interval(sums, ratio) == interval(sums, ratio)
    scaled, plain = interval(1000 * sums, ratio), interval(sums, ratio)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high), rel=1e-6)


def test_one_event_has_a_value_but_no_interval() -> None:
    found = interval(np.array([[[3.0, 2.0]]]), ratio)
    assert found.value == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_an_undefined_score_stays_undefined() -> None:
    with np.errstate(invalid="ignore"):
        found = interval(np.zeros((1, 10, 2)), ratio)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_seeds_that_disagree_widen_the_interval() -> None:
    sums = skewed_events(np.random.default_rng(5), 40)
    agreeing = np.concatenate([sums] * 3)
    disagreeing = np.concatenate([sums * [0.7, 1], sums, sums * [1.3, 1]])
    widths = [i.high - i.low for i in (interval(agreeing, ratio), interval(disagreeing, ratio))]
    assert widths[1] > 1.3 * widths[0]
