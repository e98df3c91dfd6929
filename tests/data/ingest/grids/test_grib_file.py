"""Tests of GRIB files as gridded sequences, with ecCodes where it is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.jobs import is_gridded
from tests.support.grid_files import SMALL, speckle, whole

RAIN = np.round(np.abs(speckle((2, 36, 40), 0, 40)), 1)


def _write(path: Path, values: np.ndarray = RAIN, *, south_first: bool = False, step: int = 0) -> Path:
    """Write rain in kg m-2 s-1 (GRIB2) on a grid in degrees, 6 minutes apart; NaN is missing."""
    eccodes = pytest.importorskip("eccodes")
    _, height, width = values.shape
    with path.open("wb") as stream:
        for number, frame in enumerate(values):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            north, south = 50 + 0.01 * (height - 1), 50.0
            ends = (south, north) if south_first else (north, south)
            keys = {
                "parameterCategory": 1, "parameterNumber": 7, "Ni": width, "Nj": height,
                "jScansPositively": int(south_first),
                "latitudeOfFirstGridPointInDegrees": ends[0], "latitudeOfLastGridPointInDegrees": ends[1],
                "longitudeOfFirstGridPointInDegrees": 8.0, "longitudeOfLastGridPointInDegrees": 8 + 0.01 * (width - 1),
                "iDirectionIncrementInDegrees": 0.01, "jDirectionIncrementInDegrees": 0.01, "dataDate": 20210704,
                "hour": 12, "minute": 6 * number, "second": 0, "bitmapPresent": 1, "missingValue": 9999,
                "bitsPerValue": 24,
            }  # fmt: skip
            for key, value in keys.items():
                eccodes.codes_set(message, key, value)
            if step:
                eccodes.codes_set(message, "step", step)
            stored = np.where(np.isnan(frame), 9999, frame / 3600)
            eccodes.codes_set_values(message, (stored[::-1] if south_first else stored).ravel())
            eccodes.codes_write(message, stream)
            eccodes.codes_release(message)
    return path


@pytest.mark.parametrize("south_first", [False, True])
def test_messages_are_frames_north_up(south_first: bool, tmp_path: Path) -> None:
    rain = RAIN.copy()
    rain[:, :4] = np.nan
    path = _write(tmp_path / "a.grib2", rain, south_first=south_first)
    assert is_gridded(path)
    source = open_source(path, SMALL)
    start = np.datetime64("2021-07-04T12:00:00")
    assert source.times.tolist() == [start.tolist(), (start + np.timedelta64(6, "m")).tolist()]
    assert source.geometry.corner == pytest.approx((50.35, 8.0))
    np.testing.assert_allclose(whole(path), rain, atol=0.01)


def test_forecasts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a forecast .* after its start.*observations"):
        open_source(_write(tmp_path / "a.grib2", step=6), SMALL)


def test_a_damaged_file_gives_one_line(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.grib2")
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(BadInput, match=r"can't be read|no GRIB message|damaged"):
        open_source(path, SMALL)


def test_the_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eccodes", None)
    (tmp_path / "a.grib2").write_bytes(b"GRIB" + bytes(12))
    with pytest.raises(BadInput, match=r"eccodes is not installed — .*'polarcast\[grib\]', .*'\.\[grib\]'"):
        open_source(tmp_path / "a.grib2", SMALL)


@pytest.mark.real_data
def test_real_mrms_equals_its_published_crop(shared_data: Path) -> None:
    pytest.importorskip("eccodes")
    folder = shared_data / "mrms_2min"
    source = open_source(folder / "PrecipRate_00.00_20190610-000000.grib2", GridSettings())
    crop = open_source(folder / "mrms_preciprate_20190610_2min_crop1024.npz", GridSettings())
    assert source.times[0] == crop.times[0]
    assert source.geometry.corner is not None
    assert crop.geometry.corner is not None
    row = round((source.geometry.corner[0] - crop.geometry.corner[0]) / 0.01)
    column = round((crop.geometry.corner[1] % 360 - source.geometry.corner[1]) / 0.01)
    values = source.read([0], slice(row, row + 1024), slice(column, column + 1024))
    np.testing.assert_allclose(values, crop.read([0], slice(0, 1024), slice(0, 1024)), atol=1e-4)


def test_a_map_has_ground_distances(tmp_path: Path) -> None:
    """A polar stereographic map that is true at 60 degrees of latitude is 1.24 times as large at 30."""
    eccodes = pytest.importorskip("eccodes")
    message = eccodes.codes_grib_new_from_samples("GRIB2")
    keys = {
        "gridType": "polar_stereographic", "Nx": 50, "Ny": 40, "DxInMetres": 2000, "DyInMetres": 2000,
        "latitudeOfFirstGridPointInDegrees": 30.0, "longitudeOfFirstGridPointInDegrees": 10.0, "jScansPositively": 1,
        "LaDInDegrees": 60, "orientationOfTheGridInDegrees": 10, "parameterCategory": 1, "parameterNumber": 7,
        "dataDate": 20210704, "shapeOfTheEarth": 6,
    }  # fmt: skip
    for key, value in keys.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, np.linspace(0, 0.01, 2000))
    with (tmp_path / "a.grib2").open("wb") as stream:
        eccodes.codes_write(message, stream)
    eccodes.codes_release(message)
    source = open_source(tmp_path / "a.grib2", SMALL)
    spacing, places = source.geometry.spacing, source.parts[0].positions
    assert places is not None
    # The first value is the south-west corner, 30° N 10° E; the map's meridian is that of its orientation.
    latitude, longitude = places.at(np.array([39.0, 0.0]), np.array([0.0, 0.0]))
    np.testing.assert_allclose([latitude[0], *longitude], [30.0, 10.0, 10.0], atol=1e-4)
    assert latitude[1] > 30.5
    np.testing.assert_allclose(spacing, 2 * (1 + np.sin(np.deg2rad(30.4))) / (1 + np.sin(np.deg2rad(60))), rtol=0.01)
