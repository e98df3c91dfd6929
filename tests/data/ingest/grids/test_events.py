"""Tests of the conversion of gridded sequences to events: tiles, pixels, gaps, rain."""

from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.events import MARGIN, Piece, plan, read_piece
from polarcast.data.ingest.grids.geometry import KM_PER_DEGREE, Geometry
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.grids.tiles import nearest_pixels
from tests.support.grid_files import SMALL, events_of, sequence, speckle, times_of, write, write_npz


def test_1_km_pixels_are_copied_bit_for_bit_and_tiles_are_centred(tmp_path: Path) -> None:
    data = speckle((3, 70, 101))
    events = events_of(write_npz(tmp_path / "a.npz", data))
    # 2 by 3 tiles of 32 in 70 by 101 pixels: 3 remain at the top, 2 on the left.
    assert len(events) == 6
    for number, event in enumerate(events):
        row, column = 3 + 32 * (number // 3), 2 + 32 * (number % 3)
        np.testing.assert_array_equal(event.radar[:, 0, 0], data[:, row : row + 32, column : column + 32])
    assert events[0].rain is None
    assert events[0].variables == ("zh",)
    assert events[0].note["pixels"]["resampled"] == "as stored"


def test_packed_values_are_unpacked_and_missing_ones_are_not_covered(tmp_path: Path) -> None:
    codes = np.full((2, 32, 32), 120, np.uint8)
    codes[:, :8] = 255
    codes[:, 8:10] = 0
    event = events_of(write_npz(tmp_path / "a.npz", codes, scale=0.5, offset=-32.0, nodata=255))[0]
    assert np.unique(event.radar[:, 0, 0, 10:]).tolist() == [28.0]
    assert not event.radar[:, :, :, :10].any()  # −32 dBZ is no echo
    assert event.covered[0, :8].max() == 0
    assert event.covered[0, 8:].min() == 1


def test_minus_infinity_is_no_echo_but_covered(tmp_path: Path) -> None:
    data = np.full((2, 32, 32), 30, np.float32)
    data[:, :8], data[1, 8:16], data[:, 16:20] = -np.inf, np.nan, 4.9
    event = events_of(write_npz(tmp_path / "a.npz", data))[0]
    assert (event.radar[0, 0, 0].max(1) > 0).tolist() == [False] * 8 + [True] * 8 + [False] * 4 + [True] * 12
    np.testing.assert_array_equal(event.covered[0, :, 0], [1] * 8 + [0.5] * 8 + [1] * 16)


def test_reflectivity_is_derived_from_rain_and_noted(tmp_path: Path) -> None:
    rain = np.full((2, 32, 32), 10.0 / 12, np.float32)
    rain[:, :4], rain[:, 4:8] = 0, 0.04 / 12
    event = events_of(write_npz(tmp_path / "a.npz", rain, units="mm per 5 min"))[0]
    assert event.rain is not None
    np.testing.assert_allclose(event.rain[0, :, 0], [0] * 4 + [0.04] * 4 + [10] * 24, rtol=1e-6)
    np.testing.assert_allclose(event.radar[:, 0, 0, 8:], 10 * np.log10(200 * 10**1.6), rtol=1e-5)
    assert not event.radar[:, 0, 0, :8].any()
    assert event.note["derived"] == {"zh": "Z = 200 R^1.6 of the rain rate"}


def test_the_z_r_relation_holds_in_interpolated_frames(tmp_path: Path) -> None:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(96, 110)), 4)
    rain = np.stack([np.maximum(smooth[:, 3 * k :][:, :96], 0) * 400 for k in range(4)]).astype(np.float32)
    path = write_npz(tmp_path / "a.npz", rain, units="mm/h", time=times_of(4, 5))
    event = events_of(path, GridSettings(tile=96, min_echo_pixels=1))[0]
    assert event.note["time"]["interpolated"] == 2
    assert event.rain is not None
    with np.errstate(divide="ignore"):
        expected = 10 * np.log10(200 * event.rain**1.6)
    np.testing.assert_allclose(event.radar[:, 0, 0], np.where(expected < 5, 0, expected), rtol=1e-4)


def test_a_grid_in_degrees_is_resampled_to_square_pixels(tmp_path: Path) -> None:
    """A storm is 20 km north and 15 km east of the grid's centre at 50° north; rows start in the south or north."""
    latitude, longitude = 50.5 - 0.01 * np.arange(101), 9.5 + 0.01 * np.arange(101)
    lat, lon = np.meshgrid(latitude, longitude, indexing="ij")
    north = (lat - 50) * KM_PER_DEGREE
    east = (lon - 10) * KM_PER_DEGREE * np.cos(np.deg2rad(lat))
    data = np.stack([np.where(np.hypot(north - 20, east - 15) < 6, 40, 0).astype(np.float32)] * 2)
    settings = GridSettings(tile=64, min_echo_pixels=1)
    corner = {"lat0": latitude[-1], "lon0": longitude[0], "dlat": 0.01, "dlon": 0.01}
    for path in (
        write(sequence(data, latitude, longitude, "degrees"), tmp_path / "a.nc"),
        write_npz(tmp_path / "a.npz", data[:, ::-1], **corner),
    ):
        event = events_of(path, settings)[0]
        row, column = np.nonzero(event.radar[0, 0, 0])
        assert len(row) == pytest.approx(np.pi * 36, rel=0.1)
        # The tile and the grid have the same centre, except for rounding of the margins.
        assert (31.5 - row.mean(), column.mean() - 31.5) == pytest.approx((20, 15), abs=1.2)


@pytest.mark.parametrize("spacing", [0.5, 2.0])
def test_other_pixel_sizes_are_resampled_to_1_km(tmp_path: Path, spacing: float) -> None:
    count = int(64 / spacing)
    y, x = (np.indices((count, count)) + 0.5) * spacing
    storm = np.where(np.hypot(y - 40, x - 22) < 9, 35, -32).astype(np.float32)
    path = write_npz(tmp_path / "a.npz", np.stack([storm] * 2), dx_km=spacing)
    event = events_of(path, GridSettings(tile=64, min_echo_pixels=1))[0]
    row, column = np.nonzero(event.radar[0, 0, 0])
    assert (row.mean() + 0.5, column.mean() + 0.5) == pytest.approx((40, 22), abs=0.3)
    assert len(row) == pytest.approx(np.pi * 81, rel=0.15)
    assert event.radar.max() == pytest.approx(35, abs=0.01)
    assert event.covered.min() == 1
    assert "bilinear" in event.note["pixels"]["resampled"]


def test_gaps_start_events_and_short_periods_are_dropped(tmp_path: Path) -> None:
    times = times_of(9)
    times[5:] += np.timedelta64(60, "m")
    times[8] += np.timedelta64(60, "m")
    path = write_npz(tmp_path / "a.npz", speckle((9, 32, 32)), time=times)
    pieces, dropped = plan(open_source(path, SMALL), SMALL)
    assert [(p.start, p.stop) for p in pieces] == [(0, 5), (5, 8)]
    assert dict(dropped) == {"stretches of time shorter than 2 frames": 1}
    assert [len(read_piece(p, SMALL).times) for p in pieces] == [5, 3]


def test_a_single_frame_is_not_an_event(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", speckle((1, 32, 32)))
    assert plan(open_source(path, SMALL), SMALL) == ([], {"stretches of time shorter than 2 frames": 1})


def test_frames_are_sorted_and_duplicate_times_are_dropped(tmp_path: Path) -> None:
    data, order = speckle((4, 32, 32)), [2, 0, 0, 3, 1]
    event = events_of(write_npz(tmp_path / "a.npz", data[order], time=times_of(4)[order]))[0]
    np.testing.assert_array_equal(event.radar[:, 0, 0], data)
    assert event.note["read"]["duplicate_times"] == 1


def test_tiles_without_echo_or_data_are_dropped_by_reason(tmp_path: Path) -> None:
    data = np.full((2, 32, 96), 30, np.float32)
    data[:, :, 32:64] = 0
    data[:, :, 64:] = np.nan
    path = write_npz(tmp_path / "a.npz", data)
    pieces, dropped = plan(open_source(path, SMALL), SMALL)
    assert [p.east for p in pieces] == [0]
    assert list(dropped.values()) == [1, 1]
    assert {reason.split(";")[0] for reason in dropped} == {
        "tiles with less than 30% coverage",
        "tiles with fewer than 1 pixels of 20 dBZ",
    }


def test_echo_in_a_single_frame_keeps_the_tile(tmp_path: Path) -> None:
    data = np.full((60, 32, 32), 10, np.float32)
    data[17, 4, 4] = 21
    path = write_npz(tmp_path / "a.npz", data)
    assert len(plan(open_source(path, SMALL), SMALL)[0]) == 1


def test_a_plan_is_deterministic(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", speckle((3, 70, 70)))
    first, second = ([p.identity for p in plan(open_source(path, SMALL), SMALL)[0]] for _ in range(2))
    assert first == second
    assert len(set(first)) == 4


def test_a_grid_smaller_than_a_tile_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", speckle((2, 30, 40)))
    with pytest.raises(BadInput, match="40 by 30 km, smaller than a tile of 32 km"):
        plan(open_source(path, SMALL), SMALL)


def test_echo_moves_in_over_the_edge_of_a_tile(tmp_path: Path) -> None:
    """Interpolated frames of a tile match those of a larger domain."""
    from scipy.ndimage import gaussian_filter

    field = 20 + 60 * gaussian_filter(np.random.default_rng(1).normal(size=(160, 200)), 3)
    data = np.stack([field[:, 8 * k :][:, :160] for k in range(3)]).astype(np.float32)
    path = write_npz(tmp_path / "a.npz", data, time=times_of(3, 5))
    event = events_of(path, GridSettings(tile=96, min_echo_pixels=1))[0]
    inner = slice(MARGIN, MARGIN + 96)
    at_six_minutes = (0.8 * field[:, 9:][:, :160] + 0.2 * field[:, 10:][:, :160])[inner, inner].astype(np.float32)
    edge = np.abs(event.radar[1, 0, 0] - at_six_minutes)[:, -4:]
    assert np.median(edge) < 1.0
    assert event.note["time"]["pairs_without_motion"] == 0


def test_northern_rows_on_a_grid_in_degrees_have_fewer_tiles() -> None:
    grid = Geometry.lat_lon((1000, 1000), 70.0, 0.0, -0.01, 0.01)
    tiles = grid.tiles(100)
    by_row = [sum(south == s for s, _ in tiles) for south in sorted({s for s, _ in tiles})]
    assert by_row == sorted(by_row)
    assert by_row[0] == int(1000 * 0.01 * KM_PER_DEGREE * np.cos(np.deg2rad(70)) // 100)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "tiles", "dropped", "frames", "most_rain"),
    [
        ("fmi_composite/fmi_20160928_5min", 8, 0, 33, None),
        ("knmi_rap/knmi_20100826_5min", 2, 2, 76, 120),
        ("mrms_2min/mrms_preciprate_20190610_2min_crop1024", 11, 0, 12, 200),
    ],
)
def test_real_sequences_are_ingested(
    shared_data: Path, name: str, tiles: int, dropped: int, frames: int, most_rain: float | None
) -> None:
    settings = GridSettings()
    source = open_source(shared_data / f"{name}.npz", settings)
    pieces, drops = plan(source, settings)
    assert (len(pieces), drops.total()) == (tiles, dropped)
    minutes = (source.times[-1] - source.times[0]) / np.timedelta64(60, "s")
    assert int(minutes / 6) + 1 == frames
    assert source.has_rain == (most_rain is not None)
    if most_rain:
        assert 5 < np.nanmax(source.read(range(4), *(slice(0, n) for n in source.geometry.shape))) < most_rain


@pytest.mark.real_data
def test_real_rain_keeps_its_mean_after_resampling(shared_data: Path) -> None:
    path = shared_data / "mrms_2min" / "mrms_preciprate_20190610_2min_crop1024.npz"
    settings = GridSettings()
    source = open_source(path, settings)
    corner = source.geometry.tiles(256)[4]
    event = read_piece(Piece((path,), 0, 4, *corner), settings)
    assert (event.note["time"]["taken"], event.note["time"]["interpolated"]) == (2, 0)
    native = source.read([0, 3], *(slice(0, n) for n in source.geometry.shape)).reshape(2, -1)
    under = np.nan_to_num(native[:, nearest_pixels(source.geometry, *corner, 256)])
    assert event.rain is not None
    np.testing.assert_allclose(event.rain.mean((1, 2)), under.mean(1), rtol=0.01)
