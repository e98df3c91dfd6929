"""Tests of resampling to a regular step: frames are copied at matching times and interpolated otherwise."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from polarcast.data.ingest.resample import between, matched, motion_between, radar_between, to_regular_steps

START = np.datetime64("2021-07-04T00:00:00", "s")
SIZE = 128


def _times(*minutes: float) -> np.ndarray:
    return START + (np.array(minutes) * 60).astype("timedelta64[s]")


def _echo(shift: float) -> np.ndarray:
    """Return echo moved by `shift` pixels to the right, (y, x) in dBZ; NaN below 5 dBZ."""
    rough = np.random.default_rng(0).normal(size=(SIZE, 2 * SIZE))
    smooth = 60 * gaussian_filter(rough, 4) / gaussian_filter(rough, 4).std() / 3 + 12
    columns = np.arange(SIZE) + SIZE // 2 - shift
    whole = np.floor(columns).astype(int)
    part = columns - whole
    moved = smooth[:, whole] * (1 - part) + smooth[:, whole + 1] * part
    return np.where(moved >= 5, moved, np.nan).astype(np.float32)


def _radar(*shifts: float) -> np.ndarray:
    """Return (n, v, z, y, x) with only zh at one level."""
    return np.stack([_echo(s) for s in shifts])[:, None, None]


def test_frames_at_multiples_of_the_step_are_copied() -> None:
    radar = _radar(*range(10))
    rain = np.random.default_rng(1).random((10, SIZE, SIZE)).astype(np.float32)
    regular = to_regular_steps(_times(*range(0, 20, 2)), radar, rain, step_minutes=6)
    np.testing.assert_array_equal(regular.radar, radar[::3])
    np.testing.assert_array_equal(regular.rain, rain[::3])
    assert regular.times.tolist() == _times(0, 6, 12, 18).tolist()
    assert (regular.note["taken"], regular.note["interpolated"]) == (4, 0)


def test_frames_within_the_tolerance_are_copied_and_none_is_added_at_the_end() -> None:
    radar = _radar(0, 1, 2)
    regular = to_regular_steps(_times(0, 6.4, 11.7), radar, None, step_minutes=6)
    np.testing.assert_array_equal(regular.radar, radar)
    assert regular.rain is None


def test_a_single_frame_is_unchanged() -> None:
    radar = _radar(0)
    np.testing.assert_array_equal(to_regular_steps(_times(0), radar, None, step_minutes=6).radar, radar)


def test_five_minute_frames_are_resampled_to_six_minutes() -> None:
    regular = to_regular_steps(_times(*range(0, 16, 5)), _radar(0, 2, 4, 6), None, step_minutes=6)
    assert regular.times.tolist() == _times(0, 6, 12).tolist()
    assert (regular.note["taken"], regular.note["interpolated"]) == (1, 2)
    assert regular.note["pairs_without_motion"] == 0


def test_motion_is_estimated_and_echo_is_advected() -> None:
    first, second, truth = _echo(0), _echo(8), _echo(4)
    motion = motion_between(first, second)
    assert np.median(motion[0]) == pytest.approx(8, abs=0.5)
    assert np.median(motion[1]) == pytest.approx(0, abs=0.5)
    moved, blended = (between(first[None], second[None], m, 0.5)[0] for m in (motion, 0 * motion))
    errors = [np.sqrt(np.nanmean((field - truth)[:, 16:-16] ** 2)) for field in (moved, blended)]
    assert errors[0] < 0.25 * errors[1]


def test_interpolation_at_the_ends_returns_the_frames() -> None:
    first, second = _echo(0), _echo(0.0)[::-1].copy()
    still = np.zeros((2, SIZE, SIZE))
    np.testing.assert_allclose(between(first[None], second[None], still, 0.0)[0], first, rtol=1e-6)
    np.testing.assert_allclose(between(first[None], second[None], still, 1.0)[0], second, rtol=1e-6)


def test_interpolation_keeps_the_area_and_intensity_of_echo() -> None:
    field = np.full((1, 16, 16), np.nan, np.float32)
    field[0, 4:8, 4:8] = 30
    motion = np.zeros((2, 16, 16))
    motion[0] = 3
    moved = between(field, np.roll(field, 3, axis=2), motion, 1 / 3)
    assert np.isfinite(moved).sum() == 16
    assert np.nanmin(moved) == np.nanmax(moved) == 30


def test_matching_keeps_peak_values_and_positions() -> None:
    rng = np.random.default_rng(2)
    first, second = (np.where(f > 5, f, np.nan).astype(np.float32) for f in rng.normal(25, 10, (2, 64, 64)))
    blended = between(first[None], second[None], np.zeros((2, 64, 64)), 0.5)[0]
    field = matched(blended, first, second, 0.5)
    both = np.concatenate([first[np.isfinite(first)], second[np.isfinite(second)]])
    assert np.nanquantile(field, 0.99) == pytest.approx(np.quantile(both, 0.99), abs=0.5)
    assert np.nanquantile(blended, 0.99) < np.quantile(both, 0.99) - 2
    assert (np.isfinite(field) == np.isfinite(blended)).all()
    assert (np.diff(field[np.isfinite(field)][np.argsort(blended[np.isfinite(field)])]) >= 0).all()


def test_matching_keeps_zeros_and_fields_without_a_counterpart() -> None:
    dry, wet = np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32)
    assert not matched(dry, wet, wet, 0.5).any()
    missing = np.full((8, 8), np.nan, np.float32)
    np.testing.assert_array_equal(matched(wet, missing, wet, 0.5), wet)
    assert np.isnan(matched(missing, wet, wet, 0.5)).all()


def test_variables_have_values_where_reflectivity_has_echo() -> None:
    """Where both frames have echo and one lacks ZDR, ZDR comes from the other frame."""
    zh, zdr = np.full((1, 6, 6), 30, np.float32), np.full((1, 6, 6), 1, np.float32)
    zh[:, :2] = np.nan
    no_zdr = np.full_like(zdr, np.nan)
    radar = radar_between(np.stack([zh, zdr]), np.stack([zh, no_zdr]), np.zeros((2, 6, 6)), 0.6)
    assert np.isfinite(radar[1]).tolist() == np.isfinite(radar[0]).tolist() == np.isfinite(zh).tolist()


def test_motion_is_zero_without_echo() -> None:
    no_echo = np.full((SIZE, SIZE), np.nan, np.float32)
    assert not motion_between(no_echo, _echo(0)).any()
    regular = to_regular_steps(_times(0, 5, 10), np.full((3, 1, 1, 64, 64), np.nan), None, step_minutes=6)
    assert regular.note["pairs_without_motion"] == 1
    assert np.isnan(regular.radar).all()


def test_all_variables_and_the_rain_move_together() -> None:
    frames = [_echo(s) for s in (0, 10)]
    radar = np.stack([np.stack([f, f / 20])[:, None] for f in frames])
    rain = np.stack([np.nan_to_num(f) for f in frames])
    regular = to_regular_steps(_times(0, 12), radar, rain, step_minutes=6)
    np.testing.assert_allclose(regular.radar[1, 1], regular.radar[1, 0] / 20, rtol=2e-3)
    assert np.nanmean(np.abs(regular.rain[1] - np.nan_to_num(_echo(5)))[:, 16:-16]) < 1.0  # type: ignore[index]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["fmi_20160928_5min", "fmi_20170509_5min"])
def test_real_frames_are_reconstructed_better_with_motion_than_by_blending(name: str, shared_data: Path) -> None:
    codes = np.load(shared_data / "fmi_composite" / f"{name}.npz")["data"][10:13, 400:656, 200:456]
    zh = codes * np.float32(0.5) - 32
    before, truth, after = np.where((codes == 255) | (zh < 5), np.nan, zh)
    motion = motion_between(before, after)
    moved, blended = (between(before[None], after[None], m, 0.5)[0] for m in (motion, 0 * motion))
    errors = [np.sqrt(np.nanmean((field - truth) ** 2)) for field in (moved, blended)]
    assert errors[0] < 0.75 * errors[1]
    strong = radar_between(before[None, None], after[None, None], motion, 0.5)[0, 0]
    assert np.sqrt(np.nanmean((strong - truth) ** 2)) < 1.1 * errors[0]
    assert (moved >= 30).sum() < 0.8 * (truth >= 30).sum() < (strong >= 30).sum()
