"""Radar observation of the truth: attenuation, noise, clutter, coverage and ice."""

from dataclasses import replace

import numpy as np
import pytest

from polarcast.data.synth.ice import observe_ice
from polarcast.data.synth.observe import make_site, observe, path_integral
from polarcast.data.synth.weather import Regime, Weather
from polarcast.data.synth.world import PRESETS

CLEAR = replace(PRESETS["meiyu"], noise=(0.0, 0.0, 0.0), clutter_points=0.0, blocked_sectors=0, lost_frame_share=0.0)
REGIME = Regime(-3.8, 1.8, 0.6, 0.0, 0.0, 10.0, 0.0)
SIZE = 64


def _weather(rain: float) -> Weather:
    full, none = np.full((SIZE, SIZE), rain, np.float32), np.zeros((SIZE, SIZE), np.float32)
    return Weather(full, full, none, none, none, full, none, np.zeros((4, SIZE, SIZE), np.float32))


def _observe(world, rain, regime=REGIME, seed=0):
    rng = np.random.default_rng(seed)
    return observe(world, regime, make_site(world, SIZE, np.random.default_rng(0)), _weather(rain), rng)[:2]


def test_without_errors_the_observation_equals_scattering_theory():
    radar, rain = _observe(CLEAR, 10.0)
    y, x = SIZE // 2 + 15, SIZE // 2
    dm = CLEAR.drops.dm(10.0, 0.0)
    assert dm == pytest.approx(1.15 * 10**0.14)
    assert radar[:, 0, y, x] == pytest.approx(radar[:, 1, y, x])
    assert 36 < radar[0, 1, y, x] < 38
    assert rain[y, x] == pytest.approx(10.0)


def test_residual_attenuation_increases_with_range_and_does_not_affect_kdp():
    radar, _ = _observe(CLEAR, 60.0, replace(REGIME, residual_attenuation=0.5))
    clean, _ = _observe(CLEAR, 60.0)
    middle = SIZE // 2
    loss = (clean - radar)[:, 1, middle, middle + 6 : middle + 34]
    assert (np.diff(loss[0]) > 0).all()
    assert (np.diff(loss[1]) > 0).all()
    assert (loss[2] == 0).all()


def test_path_integral_of_a_constant_is_twice_the_range():
    site = make_site(CLEAR, SIZE, np.random.default_rng(0))
    total = path_integral(site, np.full((SIZE, SIZE), 0.1, np.float32))
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    np.testing.assert_allclose(total, 0.2 * np.rint(np.hypot(y, x)), atol=1e-4)


def test_noise_has_the_given_standard_deviation_and_is_larger_in_weak_echo():
    noisy = replace(CLEAR, noise=(0.8, 0.2, 0.3), noise_growth=(1.0, 1.5, 1.0))
    for rain, zdr_sd in ((30.0, 0.2), (0.5, None)):
        radar, _ = _observe(noisy, rain)
        clean, _ = _observe(CLEAR, rain)
        error = (radar - clean)[:, 1, 20:44, 20:44].reshape(3, -1)[:, radar[0, 1, 20:44, 20:44].ravel() != 0]
        assert error[0].std() == pytest.approx(0.8, rel=0.2)
        assert error[2].std() == pytest.approx(0.3, rel=0.2)
        below = 3.8 - np.median(clean[0, 1, 20:44, 20:44]) / 10
        assert error[1].std() == pytest.approx(zdr_sd or 0.2 * 1.5**below, rel=0.2)


def test_cone_of_silence_widens_with_height():
    radar, _ = _observe(CLEAR, 10.0)
    silent = [
        (radar[0, z, SIZE // 2 - 12 : SIZE // 2 + 13, SIZE // 2 - 12 : SIZE // 2 + 13] == 0).sum() for z in range(3)
    ]
    assert 0 < silent[0] < silent[1] < silent[2]


def test_blocked_sectors_have_neither_echo_nor_rain_label():
    radar, rain = _observe(replace(CLEAR, blocked_sectors=6), 10.0)
    clear, label = _observe(CLEAR, 10.0)
    hidden = (label > 0) & (rain == 0)
    assert hidden.sum() > 20
    assert (radar[:, :, hidden] == 0).all()
    assert (clear[0, 1] != 0)[hidden].mean() > 0.9


def test_clutter_appears_at_1_km_on_fixed_points():
    cluttered = replace(CLEAR, clutter_points=800.0)
    shown = [_observe(cluttered, 0.0, seed=s)[0] for s in range(6)]
    points = np.stack([r[0, 0] != 0 for r in shown])
    assert points[0].sum() > 5
    assert not np.array_equal(points[0], points[1])
    assert points.any(axis=0).sum() <= 50
    assert not any(r[:, 1:].any() for r in shown)


def test_ice_reflects_less_than_rain_and_updrafts_increase_zdr():
    content = np.array([0.5, 5.0, 50.0], np.float32)
    ice = observe_ice(content, np.zeros(3, np.float32), 10.0)
    np.testing.assert_allclose(ice.zh, 10 * np.log10(200 * content**1.6) - 10, atol=1e-3)
    assert (np.diff(ice.zdr) < 0).all()
    assert (np.diff(ice.kdp) > 0).all()
    column = observe_ice(content, np.ones(3, np.float32), 10.0)
    np.testing.assert_allclose(column.zdr - ice.zdr, 0.32, atol=1e-5)
