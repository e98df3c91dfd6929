"""Forecasts from gridded sequences and from folders of volumes, without an archive of one's own."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import torch
import xarray as xr

from polarcast.data import workers
from polarcast.data.archive import Archive, open_archive
from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.ingest import run as ingest_run
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.distributed.world import World
from polarcast.hpc.inference.predict import PredictOptions, predict
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from tests.support.finished_run import finished
from tests.support.grid_files import dualpol, save, sequence, square, times_of, write_npz
from tests.support.radar_files import Blob, Scan, write_cfradial1

pytestmark = pytest.mark.usefixtures("one_process")

SEEN, LEAD, FRAMES = 3, 2, 5
NOWCAST = ("task=nowcast", f"data.seen_frames={SEEN}", f"data.lead_frames={LEAD}", "model.name=furenet",
           "model.widths=[4,6]", "model.squeeze=2", "match_params=false", "train.threads=1")  # fmt: skip


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    root = tmp_path_factory.mktemp("sequence-storms")
    write_archive(root, 4, size=32, seed=5, preset="tiny", frames=FRAMES)
    return open_archive(root)


@pytest.fixture(scope="module")
def packed(storms: Archive, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("sequence-shards") / "shards"
    write_shards(storms, out, split="0.5/0.25/0.25")
    return read_manifest(out)


@pytest.fixture(scope="module")
def run(packed: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("sequence-runs") / "radar"
    return finished(packed, folder, *NOWCAST, "arm=radar", "data.heights_km=[3.0]")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process: importing the radar libraries again would take most of the time."""

    def here(work: Any, jobs: Any, *_: Any, **__: Any) -> Any:
        return ((index, workers._outcome(work, job)) for index, job in enumerate(jobs))

    for module in (ingest_run, workers):
        monkeypatch.setattr(module, "run_all", here)


def frames_of(archive: Archive, variables: tuple[str, ...], heights: list[float]) -> np.ndarray:
    """(t, v, z, y, x) of event 1, without echo below 5 dBZ, as the ingestion has it."""
    selected = archive.select(variables, heights)
    fields = np.stack([selected.read_radar(1, frame) for frame in range(FRAMES)]).astype(np.float32)
    return np.where(fields[:, :1] < 5, np.float32(0), fields)


def nowcast_of(run: RunFolder, fields: np.ndarray) -> np.ndarray:
    """Forecast zh (t, z, y, x) after the last frame, by the model alone, from fields (t, v, z, y, x)."""
    config, number = run.config(), torch.zeros(1, dtype=torch.int64)
    radar = torch.from_numpy(fields[-SEEN:].astype(np.float16).astype(np.float32))[None]
    batch = Batch(radar, None, number, number, tuple(config.variables()), tuple(config.data.heights_km))
    with torch.no_grad():
        return load_model(run, World()).forecast(batch)[0, 0].numpy()


def missing_at(zh: np.ndarray) -> np.ndarray:
    """Values of a file: no echo is a low reflectivity, as many products have it."""
    return np.where(zh == 0, np.float32(-20), zh)


@pytest.mark.parametrize("kind", ["npz", "nc", "zarr"])
def test_a_sequence_is_forecast_as_the_model_does(run: RunFolder, storms: Archive, tmp_path: Path, kind: str) -> None:
    fields = frames_of(storms, ("zh",), [3.0])
    data, path = missing_at(fields[:, 0, 0]), tmp_path / f"sequence.{kind}"
    if kind == "npz":
        write_npz(path, data)
    elif kind == "nc":
        square(data).to_netcdf(path)
    else:
        square(data).to_zarr(path)
    done = predict(run, path, tmp_path / "next.nc", PredictOptions())
    assert (done.issued, done.frames) == (FRAMES - 1, LEAD)
    assert "the data have no height; taken as those at 3 km" in done.warnings
    assert (tmp_path / "next.png").is_file()
    with xr.open_dataset(tmp_path / "next.nc") as made:
        np.testing.assert_allclose(made.zh.values[0], nowcast_of(run, fields), atol=0.02)
        assert made.forecast_reference_time.values == times_of(FRAMES)[-1]


def test_levels_and_dual_polarization_are_read(packed: Manifest, storms: Archive, tmp_path: Path) -> None:
    run = finished(packed, tmp_path / "run", *NOWCAST, "arm=dualpol", "data.heights_km=[1.0,3.0]")
    fields = frames_of(storms, ("zh", "zdr", "kdp"), [1.0, 3.0])
    named = dict(zip(("zh", "zdr", "kdp"), fields.swapaxes(0, 1), strict=True))
    named["zh"] = missing_at(named["zh"])
    dualpol(named, [1.0, 3.0]).to_netcdf(tmp_path / "sequence.nc")
    done = predict(run, tmp_path / "sequence.nc", tmp_path / "next.nc", PredictOptions(picture=False))
    assert not any("no height" in line for line in done.warnings)
    with xr.open_dataset(tmp_path / "next.nc") as made:
        np.testing.assert_allclose(made.zh.values[0], nowcast_of(run, fields), atol=0.02)


def test_the_largest_tile_is_forecast_and_told(run: RunFolder, storms: Archive, tmp_path: Path) -> None:
    fields = frames_of(storms, ("zh",), [3.0])
    wide = np.pad(missing_at(fields[:, 0, 0]), ((0, 0), (5, 10), (20, 10)), constant_values=-20)
    write_npz(tmp_path / "wide.npz", wide)
    done = predict(run, tmp_path / "wide.npz", tmp_path / "next.nc", PredictOptions(size=47, picture=False))
    # 47 × 62 pixels: a side of 32 is the largest multiple of 16 that fits; one tile is 7 south and 15 east.
    assert any("covers 32 × 32 km; its north-west corner is 7 km south" in line for line in done.warnings)
    shifted = np.where(wide == -20, np.float32(0), wide)[:, None, None, 7:39, 15:47]
    with xr.open_dataset(tmp_path / "next.nc") as made:
        np.testing.assert_allclose(made.zh.values[0], nowcast_of(run, shifted), atol=0.02)


def test_several_tiles_are_chosen_from(run: RunFolder, tmp_path: Path) -> None:
    write_npz(tmp_path / "wide.npz", np.full((FRAMES, 32, 64), 20, np.float32))
    with pytest.raises(BadInput, match="2 events — select one with --event, or a larger --size"):
        predict(run, tmp_path / "wide.npz", tmp_path / "next.nc", PredictOptions())
    done = predict(run, tmp_path / "wide.npz", tmp_path / "next.nc", PredictOptions(1, picture=False))
    assert done.event == 1


def test_derived_reflectivity_is_told_and_not_estimated_from(run: RunFolder, packed: Manifest, tmp_path: Path) -> None:
    rain = np.full((FRAMES, 32, 32), 3, np.float32)
    write_npz(tmp_path / "rain.npz", rain, units="mm/h")
    done = predict(run, tmp_path / "rain.npz", tmp_path / "next.nc", PredictOptions(picture=False))
    assert "zh is derived from rain by Z = 200 R^1.6" in done.warnings
    power_law = finished(packed, tmp_path / "run", "model.name=power_law", "arm=radar", "data.heights_km=[1.0]",
                         "train.threads=1")  # fmt: skip
    with pytest.raises(BadInput, match="zh is derived, not measured"):
        predict(power_law, tmp_path / "rain.npz", tmp_path / "rain.nc", PredictOptions())


def test_another_time_step_is_brought_to_that_of_the_training(run: RunFolder, tmp_path: Path) -> None:
    write_npz(tmp_path / "s.npz", np.full((9, 32, 32), 20, np.float32), time=times_of(9, minutes=3))
    done = predict(run, tmp_path / "s.npz", tmp_path / "next.nc", PredictOptions(picture=False))
    assert done.issued == 4
    assert not any("min; the run was trained" in line for line in done.warnings)


def test_a_folder_of_volumes_is_a_sequence(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "volumes").mkdir()
    for number in range(SEEN):
        blobs = (Blob(45, 12 + number, 6, zh=48),)
        scan = Scan(elevations=(0.5, 2.0, 5.0, 15.0), rays=90, gates=60, blobs=blobs,
                    time=f"2021-07-04T12:{6 * number:02d}:00")  # fmt: skip
        write_cfradial1(tmp_path / "volumes" / f"scan{number}.nc", scan)
    (tmp_path / "volumes" / "readme.txt").write_text("no radar")
    done = predict(run, tmp_path / "volumes", tmp_path / "next.nc", PredictOptions(size=32, picture=False))
    assert (done.issued, done.frames) == (SEEN - 1, LEAD)
    assert "readme.txt is left out: not a radar volume in a known format" in done.warnings


STERE = "+proj=stere +lat_0=90 +lat_ts=60 +lon_0=14 +ellps=bessel"
WEST_KM, NORTH_KM = -150.0, -3400.0


def on_a_map(data: np.ndarray) -> Any:
    """Return a sequence with axes of a polar stereographic map in km, and no latitudes and longitudes."""
    _, height, width = data.shape
    content = sequence(data, NORTH_KM - np.arange(height) - 0.5, WEST_KM + np.arange(width) + 0.5, "km",
                       grid_mapping="crs")  # fmt: skip
    content["crs"] = ((), 0, pyproj.CRS(STERE).to_cf())
    for name in "xy":
        content[name].attrs["standard_name"] = f"projection_{name}_coordinate"
    return content


def test_a_sequence_on_a_map_has_the_places_of_its_projection(run: RunFolder, tmp_path: Path) -> None:
    """The tile is around the middle of the grid; its spacing is 1 km on the ground, 1.2% more on the map."""
    save(on_a_map(np.full((FRAMES, 60, 71), 20, np.float32)), tmp_path / "s.nc")
    done = predict(run, tmp_path / "s.nc", tmp_path / "next.nc", PredictOptions(size=48, picture=False))
    told = next(line for line in done.warnings if line.startswith("the forecast covers"))
    south, east = (float(word) for word in re.findall(r"([\d.]+) km (?:south|east)", told))
    project = pyproj.Proj(STERE)
    with xr.open_dataset(tmp_path / "next.nc") as made:
        assert made.latitude.shape == made.longitude.shape == (48, 48)
        assert "projection" not in made.variables
        assert {"latitude", "longitude"} <= set(made.zh.coords)
        assert (made.latitude.attrs["units"], made.longitude.attrs["units"]) == ("degrees_north", "degrees_east")
        x, y = project(made.longitude.values.astype(float), made.latitude.values.astype(float))
    scale = project.get_factors(*project(1000 * (WEST_KM + 35), 1000 * (NORTH_KM - 30), inverse=True)).meridional_scale
    rows, columns = np.mgrid[:48, :48]
    np.testing.assert_allclose(x / 1000, WEST_KM + scale * (east + columns + 0.5), atol=0.05)
    np.testing.assert_allclose(y / 1000, NORTH_KM - scale * (south + rows + 0.5), atol=0.05)


def test_a_sequence_in_degrees_has_its_latitudes_and_longitudes(run: RunFolder, tmp_path: Path) -> None:
    """Of a grid across the date line, too; a plane without a place has none."""
    data = np.full((FRAMES, 80, 90), 20, np.float32)
    write_npz(tmp_path / "s.npz", data, dx_km=None, lat0=-17.0, lon0=179.6, dlat=-0.01, dlon=0.01)
    predict(run, tmp_path / "s.npz", tmp_path / "next.nc", PredictOptions(size=64, picture=False))
    with xr.open_dataset(tmp_path / "next.nc") as made:
        north, east = made.latitude.values, made.longitude.values % 360
    middle = np.array([north[31:33, 31:33].mean(), east[31:33, 31:33].mean()])
    np.testing.assert_allclose(middle, [-17.0 - 0.395, 179.6 + 0.445], atol=0.01)
    np.testing.assert_allclose(np.diff(north, axis=0), -1 / 111.195, rtol=1e-3)
    np.testing.assert_allclose(np.diff(east, axis=1) * np.cos(np.deg2rad(north[:, 1:])), 1 / 111.195, rtol=5e-3)
    write_npz(tmp_path / "plane.npz", data)
    predict(run, tmp_path / "plane.npz", tmp_path / "plane.nc", PredictOptions(size=64, picture=False))
    with xr.open_dataset(tmp_path / "plane.nc") as made:
        assert not {"latitude", "longitude", "projection"} & set(made.variables)


def test_an_estimate_of_a_sequence_has_them_too(packed: Manifest, tmp_path: Path) -> None:
    power_law = finished(packed, tmp_path / "run", "model.name=power_law", "arm=radar", "data.heights_km=[1.0]",
                         "train.threads=1")  # fmt: skip
    save(on_a_map(np.full((FRAMES, 40, 40), 20, np.float32)), tmp_path / "s.nc")
    predict(power_law, tmp_path / "s.nc", tmp_path / "rain.nc", PredictOptions(size=32, picture=False))
    with xr.open_dataset(tmp_path / "rain.nc") as made:
        assert {"latitude", "longitude"} <= set(made.rain_rate.coords)
        x, _ = pyproj.Proj(STERE)(float(made.longitude[16, 16]), float(made.latitude[16, 16]))
    assert x / 1000 == pytest.approx(WEST_KM + 20, abs=1.0)


@pytest.mark.parametrize(
    ("data", "extra", "options", "message"),
    [
        (np.full((FRAMES, 32, 32), 20), {}, PredictOptions(size=4), "size = 4"),
        (np.full((FRAMES, 6, 32), 20), {}, PredictOptions(), "smaller than a tile"),
        (np.full((2, 32, 32), 20), {}, PredictOptions(), "the run needs 3 consecutive frames"),
        (np.full((FRAMES, 32, 32), 20), {"units": "K"}, PredictOptions(), "unit"),
    ],
)
def test_what_can_not_be_forecast_is_one_line(
    run: RunFolder, tmp_path: Path, data: np.ndarray, extra: dict[str, str], options: PredictOptions, message: str
) -> None:
    write_npz(tmp_path / "s.npz", data.astype(np.float32), **extra)
    with pytest.raises(BadInput) as caught:
        predict(run, tmp_path / "s.npz", tmp_path / "next.nc", options)
    assert message in str(caught.value)
    assert "s.npz" in str(caught.value)
    assert not (tmp_path / "next.nc").exists()


def test_a_folder_of_other_files_is_one_line(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no radar")
    with pytest.raises(BadInput, match="not a radar volume in a known format"):
        predict(run, tmp_path / "notes", tmp_path / "next.nc", PredictOptions())
