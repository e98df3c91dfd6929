"""Forecasts from a radar volume, and from a real event."""

from pathlib import Path

import pytest
import xarray as xr

from polarcast.data.ingest import run as ingest_run
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.inference.predict import PredictOptions, predict
from tests.support.finished_run import BASELINE, finished
from tests.support.radar_files import Blob, Scan, write_cfradial1


def test_radar_volume_is_gridded_like_ingest(shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Run in this process: importing the radar libraries again would take most of the time.
    monkeypatch.setattr(ingest_run, "run_all", lambda work, jobs, _: enumerate(map(work, jobs)))
    blobs = (Blob(45, 12, 6, zh=48),)
    scan = Scan(elevations=(0.5, 2.0, 5.0, 15.0), rays=90, gates=60, blobs=blobs, time="2021-07-04T12:00:00")
    volume = write_cfradial1(tmp_path / "storm.nc", scan)
    run = finished(shards, tmp_path / "run", *BASELINE, "data.heights_km=[1.0,3.0]")
    predict(run, volume, tmp_path / "rain.nc", PredictOptions(size=32))
    with xr.open_dataset(tmp_path / "rain.nc", decode_coords="all") as made:
        assert str(made.time.values[0]).startswith("2021-07-04T12:00:00")
        assert made.rain_rate.shape == (1, 1, 32, 32)
        wettest = made.rain_rate[0, 0].argmax(("y", "x"))
        assert (float(made.y[wettest["y"]]), float(made.x[wettest["x"]])) == pytest.approx((8.5, 8.5), abs=3)
        site = made.projection.attrs
        assert float(made.latitude[16, 16]) == pytest.approx(site["latitude_of_projection_origin"], abs=1e-4)
        assert made.latitude[0, 0] > made.latitude[1, 0]


@pytest.mark.real_data
def test_real_event_is_forecast(shards: Manifest, real_event: Path, tmp_path: Path) -> None:
    run = finished(shards, tmp_path / "run", *BASELINE)
    done = predict(run, real_event, tmp_path / "rain.nc", PredictOptions(1, frames=(0, 6), picture=False))
    assert (done.frames, done.members) == (6, 1)
    assert 20 < (done.rain_rate_max or 0) < 200
    assert any("no ZDR" in line for line in done.warnings)
