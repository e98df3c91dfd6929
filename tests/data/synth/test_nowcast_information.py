"""Parts of the nowcast information experiment on cases with known results; the full experiment takes minutes."""

import numpy as np
import pytest

from polarcast.data.synth.nowcast_information import (
    ALL_INPUTS,
    ZH_INPUTS,
    EchoPixels,
    anomaly,
    compare,
    counts,
    csi,
    join,
    make_samples,
    score_arm,
    smooth,
)


def test_counts_and_csi_match_hand_calculation():
    forecast, hit = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert counts(forecast, hit).tolist() == [1, 1, 1]
    assert csi(counts(forecast, hit)) == pytest.approx(1 / 3)


def test_interval_contains_zero_for_equal_arms_and_excludes_it_for_a_better_arm():
    rng = np.random.default_rng(0)
    zh = rng.integers(20, 60, (120, 3)).astype(np.float32)
    same = compare(zh, zh[rng.permutation(120)], 30.0)
    assert same.low < 0 < same.high
    better = zh + np.float32([10, -5, -5])
    gain = compare(zh, better, 30.0)
    assert 0 < gain.low < gain.gain < gain.high


def test_anomaly_is_uncorrelated_with_zh():
    rng = np.random.default_rng(0)
    zh = rng.uniform(10.1, 50, (4, 64, 64)).astype(np.float32)
    zdr = 0.03 * zh + rng.normal(0, 0.2, zh.shape).astype(np.float32)
    remainder = anomaly(zh, zdr)
    assert abs(np.corrcoef(remainder.ravel(), zh.ravel())[0, 1]) < 0.15
    assert remainder.std() == pytest.approx(0.2, abs=0.02)
    assert (anomaly(np.zeros_like(zh), zdr) == 0).all()


def test_smoothing_ignores_pixels_without_weight():
    field, weight = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32)
    field[:, :16], weight[:, :16] = 2.0, 1.0
    assert smooth(field, weight, 3.0)[16, 14] == pytest.approx(2.0, rel=0.05)


def test_samples_follow_the_motion():
    """For a storm that only moves, zh at the forecast position equals zh one lead time later."""
    rng = np.random.default_rng(0)
    blob = 45 * np.exp(-(((np.mgrid[:96, :96] - 40) / 9.0) ** 2).sum(axis=0)).astype(np.float32)
    frames = np.stack([np.roll(blob + rng.normal(0, 0.1, blob.shape), 3 * t, axis=1) for t in range(10)])
    radar = np.zeros((10, 3, 3, 96, 96), np.float32)
    radar[:, 0, 1] = frames
    samples = make_samples(radar, lead=4, start=4)
    forecast = samples.features[:, 0] >= 35
    assert samples.hit.sum() > 20
    assert (forecast == samples.hit).mean() > 0.99
    joined = join([samples, samples])
    assert len(joined.hit) == 2 * len(samples.hit)


def test_only_the_dual_arm_forecasts_hits_that_depend_on_zdr():
    """Hits depend only on the first zdr feature, which the zh arm does not have."""
    rng = np.random.default_rng(0)

    def event() -> EchoPixels:
        features = rng.normal(size=(400, ALL_INPUTS)).astype(np.float16)
        return EchoPixels(features, features[:, ZH_INPUTS] > 0.5, 0)

    events = [event() for _ in range(12)]
    zh, dual = (csi(score_arm(events, n, folds=2, seed=0, steps=150).sum(axis=0)) for n in (ZH_INPUTS, ALL_INPUTS))
    assert dual > 0.8
    assert zh < 0.45
