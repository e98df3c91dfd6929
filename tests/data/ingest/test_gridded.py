"""Gridded sequences: units, orientation, tiles, pixels, gaps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grid_geometry import KM_PER_DEGREE, Geometry
from polarcast.data.ingest.grid_settings import GridSettings
from polarcast.data.ingest.grid_source import open_source, quantity_of
from polarcast.data.ingest.gridded import plan, read_piece

START = np.datetime64("2021-07-04T00:00:00", "s")
SMALL = GridSettings(tile=32, min_echo_pixels=1, min_coverage=0.3)


def _times(count: int, minutes: float = 6) -> np.ndarray:
    return START + (np.arange(count) * minutes * 60).astype("timedelta64[s]")


def _npz(path: Path, data: np.ndarray, **extra: Any) -> Path:
    content = {"data": data, "time": _times(len(data)), "units": "dBZ", "dx_km": 1.0, **extra}
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


def _ramp(shape: tuple[int, ...], low: float = 10, high: float = 50) -> np.ndarray:
    """Reflectivity that differs from pixel to pixel."""
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def _events(path: Path, settings: GridSettings = SMALL) -> list[Any]:
    pieces, _ = plan(open_source(path, settings), settings)
    return [read_piece(piece, settings) for piece in pieces]


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("dBZ", ("zh", 1)), ("mm/h", ("rain_rate", 1)), ("mm h-1", ("rain_rate", 1)), ("mm hr^-1", ("rain_rate", 1)),
        ("kg m-2 h-1", ("rain_rate", 1)), ("mm per 5 min", ("rain_rate", 12)), ("mm/10min", ("rain_rate", 6)),
        ("kg m-2 s-1", ("rain_rate", 3600)), ("mm s-1", ("rain_rate", 3600)),
    ],
)  # fmt: skip
def test_units_are_understood(units: str, expected: tuple[str, float]) -> None:
    assert quantity_of(units) == expected


@pytest.mark.parametrize("units", ["", "mm", "K", "dB"])
def test_other_units_are_refused_with_a_hint(units: str) -> None:
    with pytest.raises(BadInput, match=r"units.*--units dBZ, mm/h"):
        quantity_of(units, "file.nc")


def test_kilometre_pixels_pass_bit_for_bit_and_tiles_cover_the_middle(tmp_path: Path) -> None:
    data = _ramp((3, 70, 101))
    events = _events(_npz(tmp_path / "a.npz", data))
    # 2 by 3 tiles of 32 in 70 by 101: 3 pixels to spare on top, 2 on the left.
    assert len(events) == 6
    for number, event in enumerate(events):
        row, column = 3 + 32 * (number // 3), 2 + 32 * (number % 3)
        np.testing.assert_array_equal(event.radar[:, 0, 0], data[:, row : row + 32, column : column + 32])
    assert events[0].rain is None
    assert events[0].variables == ("zh",)


def test_packed_values_are_unpacked_and_missing_ones_are_not_covered(tmp_path: Path) -> None:
    codes = np.full((2, 32, 32), 120, np.uint8)
    codes[:, :8] = 255
    codes[:, 8:10] = 0
    event = _events(_npz(tmp_path / "a.npz", codes, scale=0.5, offset=-32.0, nodata=255))[0]
    assert np.unique(event.radar[:, 0, 0, 10:]).tolist() == [28.0]
    assert not event.radar[:, :, :, :10].any()  # −32 dBZ is no echo
    assert event.covered[0, :8].max() == 0
    assert event.covered[0, 8:].min() == 1


def test_rain_becomes_reflectivity_by_z_r_and_says_so(tmp_path: Path) -> None:
    rain = np.full((2, 32, 32), 10.0 / 12, np.float32)
    rain[:, :4] = 0
    event = _events(_npz(tmp_path / "a.npz", rain, units="mm per 5 min"))[0]
    np.testing.assert_allclose(event.rain[:, 4:], 10, rtol=1e-6)
    np.testing.assert_allclose(event.radar[:, 0, 0, 4:], 10 * np.log10(200 * 10**1.6), rtol=1e-5)
    assert not event.radar[:, 0, 0, :4].any()
    assert event.note["derived"] == {"zh": "Z = 200 R^1.6 of the rain rate"}


def _netcdf(path: Path, data: np.ndarray, y: np.ndarray, x: np.ndarray, unit: str, **kwargs: Any) -> Path:
    import xarray as xr

    dims = {"degrees": ("lat", "lon", "degrees_north", "degrees_east")}.get(unit, ("y", "x", unit, unit))
    axes = {dims[0]: (dims[0], y, {"units": dims[2]}), dims[1]: (dims[1], x, {"units": dims[3]})}
    variable = (("time", dims[0], dims[1]), data, {"units": kwargs.get("units", "dBZ")})
    content = xr.Dataset({"field": variable}, {"time": _times(len(data)).astype("datetime64[ns]"), **axes})
    packing = {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -32768}
    if path.suffix == ".zarr":
        content.to_zarr(path, consolidated=False, encoding={"field": packing}, zarr_format=2)
    else:
        content.to_netcdf(path, encoding={"field": packing})
    return path


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("unit", ["m", "km"])
def test_netcdf_and_zarr_come_in_north_up(tmp_path: Path, suffix: str, unit: str) -> None:
    data = np.round(_ramp((2, 40, 40)), 2)
    step = 1000.0 if unit == "m" else 1.0
    south_first, x = np.arange(40) * step, np.arange(40) * step
    event = _events(_netcdf(tmp_path / f"a{suffix}", data, south_first, x, unit))[0]
    np.testing.assert_allclose(event.radar[:, 0, 0], data[:, ::-1][:, 4:36, 4:36], atol=0.006)


def test_a_grid_in_degrees_is_laid_on_square_kilometres(tmp_path: Path) -> None:
    """A storm at a known place, 20 km north and 15 km east of the grid's middle at 50° north."""
    latitude, longitude = 50.5 - 0.01 * np.arange(101), 9.5 + 0.01 * np.arange(101)
    lat, lon = np.meshgrid(latitude, longitude, indexing="ij")
    north = (lat - 50) * KM_PER_DEGREE
    east = (lon - 10) * KM_PER_DEGREE * np.cos(np.deg2rad(lat))
    data = np.where(np.hypot(north - 20, east - 15) < 6, 40, 0).astype(np.float32)
    path = _netcdf(tmp_path / "a.nc", np.stack([data, data]), latitude, longitude, "degrees")
    event = _events(path, GridSettings(tile=64, min_echo_pixels=1))[0]
    row, column = np.nonzero(event.radar[0, 0, 0])
    assert len(row) == pytest.approx(np.pi * 36, rel=0.1)
    # The tile's middle is the grid's, but for the spare kilometres that are cut off evenly.
    assert (31.5 - row.mean(), column.mean() - 31.5) == pytest.approx((20, 15), abs=1.2)


@pytest.mark.parametrize("spacing", [0.5, 2.0])
def test_other_pixels_are_brought_to_a_kilometre(tmp_path: Path, spacing: float) -> None:
    count = int(64 / spacing)
    y, x = (np.indices((count, count)) + 0.5) * spacing
    storm = np.where(np.hypot(y - 40, x - 22) < 9, 35, 0).astype(np.float32)
    event = _events(
        _npz(tmp_path / "a.npz", np.stack([storm] * 2), dx_km=spacing), GridSettings(tile=64, min_echo_pixels=1)
    )[0]
    row, column = np.nonzero(event.radar[0, 0, 0])
    assert (row.mean() + 0.5, column.mean() + 0.5) == pytest.approx((40, 22), abs=0.3)
    assert len(row) == pytest.approx(np.pi * 81, rel=0.1)
    assert event.radar.max() == pytest.approx(35, abs=0.01)


def test_gaps_begin_events_and_short_stretches_are_dropped(tmp_path: Path) -> None:
    times = _times(9)
    times[5:] += np.timedelta64(60, "m")
    times[8] += np.timedelta64(60, "m")
    path = _npz(tmp_path / "a.npz", _ramp((9, 32, 32)), time=times)
    pieces, dropped = plan(open_source(path, SMALL), SMALL)
    assert [(p.start, p.stop) for p in pieces] == [(0, 5), (5, 8)]
    assert dict(dropped) == {"stretches of time shorter than 2 frames": 1}


def test_frames_are_put_in_order_and_one_of_two_at_a_time_is_taken(tmp_path: Path) -> None:
    data, order = _ramp((4, 32, 32)), [2, 0, 0, 3, 1]
    path = _npz(tmp_path / "a.npz", data[order], time=_times(4)[order])
    event = _events(path)[0]
    np.testing.assert_array_equal(event.radar[:, 0, 0], data)
    assert event.note["read"]["duplicate_times"] == 1


def test_dry_and_unseen_tiles_are_dropped_by_reason(tmp_path: Path) -> None:
    data = np.full((2, 32, 96), 30, np.float32)
    data[:, :, 32:64] = 0
    data[:, :, 64:] = np.nan
    path = _npz(tmp_path / "a.npz", data)
    pieces, dropped = plan(open_source(path, SMALL), SMALL)
    assert [p.east for p in pieces] == [0]
    assert dict(dropped) == {"tiles with less than 30% coverage": 1, "tiles with fewer than 1 pixels of 20 dBZ": 1}


def test_a_plan_is_the_same_every_time(tmp_path: Path) -> None:
    path = _npz(tmp_path / "a.npz", _ramp((3, 70, 70)))
    first, second = ([p.identity for p in plan(open_source(path, SMALL), SMALL)[0]] for _ in range(2))
    assert first == second
    assert len(set(first)) == 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"time": None}, "no 'time'"),
        ({"time": _times(2)}, r"data \(3, 40, 40\) and 2 times"),
        ({"data": np.zeros((40, 40))}, r"data \(40, 40\)"),
        ({"units": "mm"}, "--units"),
    ],
)
def test_an_incomplete_npz_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = _npz(tmp_path / "a.npz", **{"data": _ramp((3, 40, 40)), **change})
    with pytest.raises(BadInput, match=complaint):
        open_source(path, SMALL)


def test_a_grid_smaller_than_a_tile_is_refused(tmp_path: Path) -> None:
    path = _npz(tmp_path / "a.npz", _ramp((2, 30, 40)))
    with pytest.raises(BadInput, match="40 by 30 km, smaller than a tile of 32 km"):
        plan(open_source(path, SMALL), SMALL)


def test_of_two_variables_one_has_to_be_chosen(tmp_path: Path) -> None:
    import xarray as xr

    path = _netcdf(tmp_path / "a.nc", _ramp((2, 40, 40)), np.arange(40.0), np.arange(40.0), "km")
    two = xr.open_dataset(path).load()
    two["other"] = two["field"] - 10
    two["other"].attrs["units"] = "dBZ"
    two.to_netcdf(tmp_path / "b.nc")
    with pytest.raises(BadInput, match=r"any of field, other.*--variable"):
        open_source(tmp_path / "b.nc", SMALL)
    assert open_source(tmp_path / "b.nc", GridSettings(variable="other")).quantity == "zh"
    with pytest.raises(BadInput, match="no variable 'third'"):
        open_source(tmp_path / "b.nc", GridSettings(variable="third"))


def test_axes_without_units_need_a_spacing(tmp_path: Path) -> None:
    path = _netcdf(tmp_path / "a.nc", _ramp((2, 40, 40)), np.arange(40.0), np.arange(40.0), "1")
    with pytest.raises(BadInput, match="--spacing-km"):
        open_source(path, SMALL)
    assert open_source(path, GridSettings(spacing_km=2.0)).geometry.spacing == (2.0, 2.0)


def test_a_damaged_file_is_told_in_a_line(tmp_path: Path) -> None:
    for name, content in (("a.nc", b"\x89HDF\r\n\x1a\ngarbage"), ("a.npz", b"PK\x03\x04garbage")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match="can't be read as a gridded sequence") as caught:
            open_source(tmp_path / name, SMALL)
        assert "\n" not in str(caught.value)


def test_meridians_converge_and_tiles_follow() -> None:
    grid = Geometry.lat_lon((1000, 1000), 70.0, 0.0, -0.01, 0.01)
    tiles = grid.tiles(100)
    by_row = [sum(south == s for s, _ in tiles) for south in sorted({s for s, _ in tiles})]
    assert by_row == sorted(by_row)
    assert by_row[0] == int(1000 * 0.01 * KM_PER_DEGREE * np.cos(np.deg2rad(70)) // 100)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "tiles", "frames", "most_rain"),
    [
        ("fmi_composite/fmi_20160928_5min", 8, 33, None),
        ("knmi_rap/knmi_20100826_5min", 2, 76, 120),
        ("mrms_2min/mrms_preciprate_20190610_2min_crop1024", 11, 12, 200),
    ],
)
def test_real_sequences_go_in(shared_data: Path, name: str, tiles: int, frames: int, most_rain: float | None) -> None:
    settings = GridSettings()
    source = open_source(shared_data / f"{name}.npz", settings)
    pieces, _ = plan(source, settings)
    assert len(pieces) == tiles
    few = range(4)
    whole = source.read(few, slice(0, source.geometry.shape[0]), slice(0, source.geometry.shape[1]))
    minutes = (source.times[-1] - source.times[0]) / np.timedelta64(60, "s")
    assert int(minutes / 6) + 1 == frames
    assert source.has_rain == (most_rain is not None)
    if most_rain:
        assert 5 < np.nanmax(whole) < most_rain
