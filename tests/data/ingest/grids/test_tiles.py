"""Tests of tiles of 1 km pixels: copied, interpolated, or averaged."""

import numpy as np
import pytest

from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.tiles import NO_ECHO, coarsened, footprint, lay_on_tile, nearest_pixels

NAN = np.float32(np.nan)


def _tile(
    values: np.ndarray, spacing: float, *, in_db: bool = True, size: int = 8, corner: float = 0, margin: int = 0
) -> np.ndarray:
    place = footprint(Geometry.plane(values.shape, spacing, spacing), corner, corner, size, margin)
    return lay_on_tile(values[place.rows, place.columns].astype(np.float32), place, in_db=in_db)


def test_1_km_pixels_are_copied_and_nan_outside_the_source() -> None:
    values = np.random.default_rng(0).random((10, 10)).astype(np.float32)
    tile = _tile(values, 1.0, margin=3)
    np.testing.assert_array_equal(tile[3:13, 3:13], values)
    assert np.isnan(tile[:3]).all()
    assert np.isnan(tile[:, 13:]).all()


def test_nearly_1_km_counts_as_1_km() -> None:
    values = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    np.testing.assert_array_equal(_tile(values, 0.99967), values)


def test_coarse_pixels_are_interpolated_up_to_the_outer_edge() -> None:
    ramp = np.broadcast_to(np.arange(10, 18, 2.0), (4, 4))
    tile = _tile(ramp, 2.0, in_db=False)
    assert not np.isnan(tile).any()
    np.testing.assert_allclose(tile[0], [10, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5, 16])


def test_interpolation_adds_no_rim_of_weak_echo() -> None:
    values = np.full((8, 8), NO_ECHO)
    values[2:6, 2:6] = 40
    tile = _tile(values, 2.0, size=16)
    assert set(np.unique(tile)) == {NO_ECHO, 40.0}
    assert (tile == 40).sum() == pytest.approx(64, abs=4)


def test_rain_is_interpolated_with_its_zeros() -> None:
    values = np.zeros((4, 4))
    values[:, :2] = 8
    np.testing.assert_allclose(_tile(values, 2.0, in_db=False)[3], [8, 8, 8, 6, 2, 0, 0, 0])


def test_half_of_the_weight_must_have_data() -> None:
    values = np.full((4, 4), 3.0)
    values[:, 2:] = NAN
    tile = _tile(values, 2.0, in_db=False)
    assert np.isnan(tile[3]).tolist() == [False] * 4 + [True] * 4
    np.testing.assert_allclose(tile[:, :4], 3)


def test_fine_pixels_are_averaged_as_power_with_no_echo_as_zero() -> None:
    values = np.full((16, 16), 30.0)
    values[::2] = NO_ECHO
    np.testing.assert_allclose(_tile(values, 0.5), 30 + 10 * np.log10(0.5), rtol=1e-6)
    np.testing.assert_allclose(_tile(np.where(values > 0, 4.0, 0.0), 0.5, in_db=False), 2.0)


def test_a_block_is_averaged_over_its_valid_pixels() -> None:
    values = np.array([[10, NAN, 1, NAN], [NAN, 20, NAN, NAN]], np.float32)
    means = coarsened(values, (2, 2), in_db=False)
    assert means[0, 0] == 15
    assert np.isnan(means[0, 1])


def test_neighbouring_tiles_average_the_same_blocks() -> None:
    values = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    whole = _tile(values, 0.5, in_db=False, size=32)
    part = _tile(values, 0.5, in_db=False, size=8, corner=13.0)
    np.testing.assert_allclose(part, whole[13:21, 13:21], rtol=1e-5)


def test_nearest_pixels_are_found_on_any_grid() -> None:
    fine = np.repeat(np.repeat(np.arange(16).reshape(4, 4), 2, 0), 2, 1)
    grid = Geometry.plane((4, 4), 2.0, 2.0)
    np.testing.assert_array_equal(np.arange(16).take(nearest_pixels(grid, 0, 0, 8)), fine.ravel())
