"""Tests of spectra, motion and lifetimes on fields with known values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.explore.scales import (
    band_pass,
    correlation_sums,
    lifetime,
    motion,
    power_law,
    spectral_slope,
    spectrum,
)


def _field(size: int, exponent: float, seed: int = 0) -> np.ndarray:
    """Return a periodic field with power density k^exponent and a mean of 30 dBZ."""
    rng = np.random.default_rng(seed)
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    k[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * k ** (exponent / 2))
    return 30 + 5 * field / field.std()


@pytest.mark.parametrize("exponent", [-2.2, -2.8])
def test_spectral_slope_is_recovered(exponent):
    zh = np.stack([_field(256, exponent, seed) for seed in range(16)])
    k, power = spectrum(zh)
    assert spectral_slope(k, power, 5, 20) == pytest.approx(exponent, abs=0.12)
    assert spectral_slope(k, power, 20, 100) == pytest.approx(exponent, abs=0.35)


@settings(max_examples=15, deadline=None)
@given(dy=st.integers(-9, 9), dx=st.integers(-9, 9))
def test_motion_of_a_shifted_field_is_recovered(dy, dx):
    field = _field(96, -2.8, 3)
    frames = np.stack([np.roll(field, (dy * t, dx * t), axis=(0, 1)) for t in range(4)])
    assert motion(frames) == pytest.approx((dy, dx), abs=0.6)


def test_lifetimes_of_a_frozen_storm_and_of_noise():
    frozen = np.stack([np.roll(_field(128, -2.8), (0, 3 * t), axis=(0, 1)) for t in range(10)])
    noise = np.stack([_field(128, 0.0, seed) for seed in range(10)])
    assert lifetime(correlation_sums(frozen, (16.0,))[16.0]) > 300
    assert lifetime(correlation_sums(noise, (16.0,))[16.0]) < 8


@pytest.mark.parametrize("tau", [20.0, 45.0, 200.0])
def test_lifetime_of_an_exponential_correlation_is_recovered(tau):
    lags = np.arange(16) * 6.0
    sums = np.stack([np.exp(-lags / tau), np.ones(16), np.ones(16)], axis=1)
    assert lifetime(sums) == pytest.approx(tau, rel=0.02)


def test_band_pass_keeps_its_scale_and_drops_others():
    x = np.mgrid[:128, :128][1]
    wave = {s: np.cos(2 * np.pi * x / s)[None] for s in (8.0, 32.0)}
    assert band_pass(wave[32.0], 32.0).std() == pytest.approx(wave[32.0].std(), rel=0.01)
    assert band_pass(wave[8.0], 32.0).std() < 1e-3


def test_power_law_exponent_and_misfit():
    exponent, misfit = power_law([8, 16, 32], [10, 20, 40])
    assert exponent == pytest.approx(1.0)
    assert misfit == pytest.approx(0.0, abs=1e-9)
    assert power_law([8, 16, 32], [10, 30, 40])[1] > 0.1
