"""Content and writing of prediction files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.io import netcdf_file

from polarcast.hpc.inference.cf_dataset import Forecasts, to_dataset
from polarcast.hpc.inference.grid import geographic
from polarcast.hpc.inference.netcdf import FILL, Dataset, Variable, write_netcdf
from polarcast.hpc.inference.warnings import describe_frames


def test_grid_is_converted_to_latitude_and_longitude() -> None:
    north, east = geographic(np.array([111.2, 0.0]), np.array([0.0, 80.0]), (32.0, 118.0))
    assert north[0, 0] == pytest.approx(33, abs=1e-3)
    assert (north[1, 0], east[1, 0]) == pytest.approx((32, 118))
    # 80 km east at 32° N, where a degree is 94.3 km long.
    assert east[1, 1] == pytest.approx(118 + 80 / 94.3, abs=1e-3)


def test_non_finite_values_are_written_as_missing(tmp_path: Path) -> None:
    rain = np.ones((2, 1, 3, 3), np.float32)
    rain[0, 0, 1, 1] = np.nan
    one = Forecasts(rain, np.array([0]), 0, np.zeros((1, 1, 3, 3), np.float32), ("zh",), 1.0, None, 1.0, 6.0)
    write_netcdf(tmp_path / "rain.nc", to_dataset(one, {"Conventions": "CF-1.8"}))
    with netcdf_file(tmp_path / "rain.nc", mmap=False) as raw:
        assert (raw.variables["rain_rate"][:] == FILL).sum() == 1
    with xr.open_dataset(tmp_path / "rain.nc") as read:
        assert int(read.rain_rate.isnull().sum()) == int(read.rain_rate_mean.isnull().sum()) == 1


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nc"
    fine = Dataset({"x": Variable(("x",), np.arange(3.0), {"units": "km", "half": 0.1})}, {"title": "0–65 dBZ", "n": 3})
    write_netcdf(path, fine)
    before = path.read_bytes()
    with xr.open_dataset(path) as read:
        assert (read.attrs["title"], int(read.attrs["n"]), float(read.x.attrs["half"])) == ("0–65 dBZ", 3, 0.1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polarcast.data.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_netcdf(path, replace(fine, attributes={"title": "new"}))
    with pytest.raises(ValueError, match="x has length 2"):
        write_netcdf(path, replace(fine, variables={**fine.variables, "y": Variable(("x",), np.zeros(2))}))
    with pytest.raises(ValueError, match="an attribute of the scipy object"):
        write_netcdf(path, replace(fine, attributes={"variables": "zh"}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


def test_frames_are_described_briefly() -> None:
    for frames, text in (
        ([3], "frame 3"),
        ([3, 4, 5], "frames 3–5"),
        ([1, 4], "frames 1, 4"),
        (list(range(0, 20, 2)), "10 frames from 0 to 18"),
    ):
        assert describe_frames(np.array(frames)) == text
