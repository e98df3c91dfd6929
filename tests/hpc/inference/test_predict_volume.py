"""Forecasts from a radar volume, and from a real event."""

from pathlib import Path

import pytest
import xarray as xr

from polarcast.data.errors import BadInput
from polarcast.data.ingest import run as ingest_run
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.inference.inputs import Input
from polarcast.hpc.inference.predict import PredictOptions, predict
from polarcast.hpc.inference.qpe import site_of, site_warnings
from tests.support.finished_run import BASELINE, finished
from tests.support.radar_files import Blob, Scan, write_cfradial1

pytestmark = pytest.mark.usefixtures("one_process")


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


@pytest.mark.parametrize(
    ("failed", "advice"),
    [
        ("no position of the radar (0° N, 0° E) — give it: --site LATITUDE,LONGITUDE,METRES", "with --site, then"),
        ("no ZDR — take fewer variables: --variables zh", "with --variables, then predict on ARCHIVE"),
        ("can't be read as ODIM_H5 (OSError: cut) — copy it again from its source", "copy it again from its source"),
    ],
)
def test_advice_of_the_ingestion_can_be_followed(
    shards: Manifest, failed: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_run, "ingest", lambda *_, **__: ingest_run.IngestReport(failed={"storm.nc": failed}))
    (tmp_path / "storm.vol").write_bytes(b"any")
    run = finished(shards, tmp_path / "run", *BASELINE)
    with pytest.raises(BadInput) as caught:
        predict(run, tmp_path / "storm.vol", tmp_path / "rain.nc", PredictOptions(size=32))
    assert advice in caught.value.fix
    assert "polarcast data ingest ARCHIVE FILE" in caught.value.fix or "--" not in caught.value.fix
    assert not (tmp_path / "rain.nc").exists()


@pytest.mark.parametrize(
    ("site", "place"),
    [
        ({"latitude": 0.0, "longitude": 0.0}, None), ({"latitude": float("nan"), "longitude": 118.0}, None),
        ({"latitude": -9999.0, "longitude": -9999.0}, None), ({"latitude": None, "longitude": 3}, None),
        ({"latitude": 0.0, "longitude": 101.5}, (0.0, 101.5)), ({"latitude": 32.1, "longitude": 118.7}, (32.1, 118.7)),
    ],
)  # fmt: skip
def test_an_unknown_place_is_told_and_not_written(
    shards: Manifest, site: dict[str, object], place: tuple[float, float] | None
) -> None:
    source = Input("storm", 0, shards, {"site": site})
    assert site_of(source) == place
    assert bool(site_warnings(source)) == (place is None)


def test_an_archive_without_a_place_is_no_warning(shards: Manifest) -> None:
    assert site_warnings(Input("storm", 0, shards, {})) == []


@pytest.mark.real_data
def test_real_event_is_forecast(shards: Manifest, real_event: Path, tmp_path: Path) -> None:
    run = finished(shards, tmp_path / "run", *BASELINE)
    done = predict(run, real_event, tmp_path / "rain.nc", PredictOptions(1, frames=(0, 6), picture=False))
    assert (done.frames, done.members) == (6, 1)
    assert 20 < (done.rain_rate_max or 0) < 200
    assert any("no ZDR" in line for line in done.warnings)
