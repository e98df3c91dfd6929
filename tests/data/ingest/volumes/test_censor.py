"""Tests of the removal of gates without precipitation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.ingest.volumes.censor import phase_texture, precipitation, window_gates
from polarcast.data.ingest.volumes.volume import Sweep

LIMITS = {"min_dbz": 5.0, "min_rhohv": 0.8, "max_texture_deg": 20.0}


def _sweep(**fields: np.ndarray) -> Sweep:
    """Return 60 rays of 200 gates of 250 m filled with rain, except for the given fields."""
    shape = (60, 200)
    rain = {"zh": np.full(shape, 30.0), "rhohv": np.full(shape, 0.99), "phidp": np.full(shape, 40.0)}
    values = {name: np.asarray(field, np.float32) for name, field in {**rain, **fields}.items()}
    azimuth, range_m = np.arange(60) * 6.0, 125 + 250.0 * np.arange(200)
    return Sweep(np.full(60, 0.5, np.float32), azimuth.astype(np.float32), range_m.astype(np.float32), values)


def test_rain_is_kept() -> None:
    echo, removed = precipitation(_sweep(), **LIMITS)
    assert echo.all()
    assert set(removed.values()) == {0}


@pytest.mark.parametrize(("name", "value", "reason"), [("zh", 2.0, "weak"), ("rhohv", 0.6, "rhohv")])
def test_a_patch_below_a_limit_is_removed_and_counted(name: str, value: float, reason: str) -> None:
    field = _sweep().fields[name].copy()
    field[10:20, 50:70] = value
    echo, removed = precipitation(_sweep(**{name: field}), **LIMITS)
    assert not echo[10:20, 50:70].any()
    assert echo.sum() == echo.size - 200
    assert removed == {**dict.fromkeys(removed, 0), reason: 200}


def test_gates_with_noisy_phase_are_removed() -> None:
    phase = _sweep().fields["phidp"].copy()
    phase[10:20, 50:90] = np.random.default_rng(0).uniform(0, 360, (10, 40))
    echo, removed = precipitation(_sweep(phidp=phase), **LIMITS)
    assert echo[10:20, 55:85].mean() < 0.02
    assert echo[:10].all()
    assert removed["texture"] > 300


def test_speckle_is_removed_and_a_storm_is_kept() -> None:
    zh = np.full((60, 200), np.nan)
    zh[5:9, 20:40] = 35
    zh[30, 100:104] = 35
    echo, removed = precipitation(_sweep(zh=zh), **LIMITS)
    assert echo.sum() == 80
    assert removed["speckle"] == 4


def test_without_dual_pol_only_reflectivity_and_speckle_are_tested() -> None:
    sweep = _sweep()
    single = Sweep(sweep.elevation_deg, sweep.azimuth_deg, sweep.range_m, {"zh": sweep.fields["zh"]})
    echo, removed = precipitation(single, **LIMITS)
    assert echo.all()
    assert set(removed) == {"weak", "speckle"}


@given(offset=st.floats(-720, 720), sigma=st.floats(0, 30))
def test_texture_equals_the_phase_noise_regardless_of_folding(offset: float, sigma: float) -> None:
    noise = np.random.default_rng(1).normal(0, sigma, (40, 300))
    texture = phase_texture(np.mod(offset + noise, 360).astype(np.float32), 9)
    # The sample variance of nine gates is a ninth smaller.
    assert np.nanmean(texture) == pytest.approx(sigma * np.sqrt(8 / 9), rel=0.06, abs=0.05)


@given(offset=st.floats(-720, 720), fold=st.sampled_from([0, -180]), seed=st.integers(0, 9))
def test_texture_does_not_depend_on_offset_or_folding(offset: float, fold: int, seed: int) -> None:
    phase = np.random.default_rng(seed).normal(0, 25, (6, 80)) + np.linspace(0, 300, 80)
    phase[2, 10:30] = np.nan
    folded = np.mod(phase + offset - fold, 360) + fold
    plain, moved = (phase_texture(p.astype(np.float32), 9) for p in (phase, folded))
    np.testing.assert_allclose(moved, plain, atol=0.01)


def test_texture_needs_half_of_the_window() -> None:
    phase = np.full((1, 40), np.nan, np.float32)
    phase[0, 10:13] = 5
    assert np.isnan(phase_texture(phase, 9)).all()


def test_window_size_depends_on_gate_spacing() -> None:
    assert window_gates(_sweep(), 2.0) == 8
    assert window_gates(_sweep(), 0.1) == 3


@given(offset=st.floats(0, 360))
def test_a_phase_that_folds_at_180_degrees_has_the_same_texture(offset: float) -> None:
    noise = offset + np.random.default_rng(1).normal(0, 5, (10, 200))
    whole, half = (phase_texture(np.mod(noise, fold).astype(np.float32), 9, fold) for fold in (360.0, 180.0))
    np.testing.assert_allclose(half, whole, rtol=0.05)
