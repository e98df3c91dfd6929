"""Prediction files: equal to evaluation, CF netCDF, with warnings about the input."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.io import netcdf_file

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.errors import BadInput
from polarcast.data.field_file import read_field
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.write import write_shards
from polarcast.hpc.config.digest import digest
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.inference import plot
from polarcast.hpc.inference.cf_dataset import Forecasts
from polarcast.hpc.inference.predict import PredictOptions, predict
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from tests.support.finished_run import BASELINE, CONTEXT, DIFFUSION, UNET, finished

Result = tuple[int, str, str]


@pytest.fixture(scope="module")
def baseline(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished(shards, tmp_path_factory.mktemp("runs") / "baseline", *BASELINE)


@pytest.fixture(scope="module")
def diffusion(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished(shards, tmp_path_factory.mktemp("runs") / "diffusion", *DIFFUSION)


@pytest.fixture
def damaged(archive: Archive, tmp_path: Path) -> Archive:
    """One event that a test may change, as an archive of its own."""
    radar = np.stack([archive.read_radar(1, frame) for frame in archive.frames[1]])
    rain = np.stack([archive.read_rain(1, frame) for frame in archive.frames[1]])
    write_event(tmp_path / "damaged", 1, radar, rain)
    return open_archive(tmp_path / "damaged")


def change(file: Path, **values: float) -> None:
    """Set some pixels of a field: `row_4=80`."""
    field = read_field(file).copy()
    for row, value in values.items():
        field[int(row.removeprefix("row_"))] = value
    np.save(file, field)


def rain_of(file: Path, name: str = "rain_rate") -> np.ndarray:
    with xr.open_dataset(file) as found:
        return np.asarray(found[name].values)


def record(records: Records, score: str, event: int) -> float:
    wanted = parse_score(score)
    row = int(np.flatnonzero(records.events == event)[0])
    return float(wanted.of(wanted.sums(records)[row], records.protocol))


@pytest.mark.parametrize("overrides", [BASELINE, CONTEXT, DIFFUSION], ids=["power_law", "unet", "diffusion"])
def test_prediction_of_an_event_equals_its_evaluation(
    overrides: tuple[str, ...], archive: Archive, shards: Manifest, tmp_path: Path
) -> None:
    run = finished(shards, tmp_path / "run", *overrides)
    records = evaluate(run, shards, Output(tmp_path / "scores.parquet", tmp_path / "cases.npz"))
    event = int(shards.splits["test"][1])
    predict(run, archive.root, tmp_path / "rain.nc", PredictOptions(event, picture=False))
    made = rain_of(tmp_path / "rain.nc").astype(np.float64)
    # Evaluation uses the observations of the shards, in half precision.
    observed = np.stack([archive.read_rain(event, f) for f in archive.frames[event]]).astype(np.float16)
    masks = archive.read_observed(event, shards.shape)
    assert masks is not None
    scored = np.stack([masks.masks(f)[-1] for f in archive.frames[event]])
    error, observed = (made.mean(0) - observed)[scored], observed[scored]
    assert np.sqrt((error**2).mean()) == pytest.approx(record(records, "rmse", event), rel=1e-5)
    assert 100 * error.sum() / observed.sum(dtype=float) == pytest.approx(record(records, "nb", event), rel=1e-4)
    assert len(made) == records.protocol.members


def test_forecast_depends_on_the_seed_only(diffusion: RunFolder, archive: Archive, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        predict(diffusion, archive.root, tmp_path / f"{name}.nc", PredictOptions(2, 2, seed, picture=False))
    one, again, other = (rain_of(tmp_path / f"{name}.nc") for name in ("one", "again", "other"))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])
    np.testing.assert_allclose(rain_of(tmp_path / "one.nc", "rain_rate_mean"), one.mean(0), rtol=1e-6)


def test_frame_range_equals_the_same_frames_of_the_whole_event(
    shards: Manifest, archive: Archive, tmp_path: Path
) -> None:
    run = finished(shards, tmp_path / "run", *CONTEXT)
    predict(run, archive.root, tmp_path / "whole.nc", PredictOptions(3, picture=False))
    done = predict(run, archive.root, tmp_path / "part.nc", PredictOptions(3, frames=(2, None), picture=False))
    assert done.frames == 2
    # Earlier frames are still used as context, and time is still relative to the start of the event.
    np.testing.assert_allclose(
        rain_of(tmp_path / "part.nc"), rain_of(tmp_path / "whole.nc")[:, 2:], rtol=1e-5, atol=1e-6
    )
    with netcdf_file(tmp_path / "part.nc", mmap=False) as part:
        assert part.variables["time"][:].tolist() == [720, 1080]
        assert part.variables["frame"][:].tolist() == [2, 3]


def test_all_kinds_of_input_give_the_same_forecast(
    baseline: RunFolder, archive: Archive, shards: Manifest, tmp_path: Path
) -> None:
    row = shards.samples[shards.samples[:, 1] == 5][0]
    places: list[tuple[Path, int | None]] = [
        (archive.root, 5),
        (archive.radar_file("zdr", 3.0, 5, 0).parent, None),
        (archive.rain_file(5, 0).parent, None),
        (shards.folder, 5),
        (shards.folder / shards.shards[row[0]].name, None),
    ]
    made = []
    for number, (place, event) in enumerate(places):
        out = tmp_path / f"{number}.nc"
        assert predict(baseline, place, out, PredictOptions(event, picture=False)).event == 5
        made.append(rain_of(out))
    assert all(np.array_equal(made[0], other) for other in made[1:])


def test_file_follows_the_cf_conventions(
    diffusion: RunFolder, archive: Archive, shards: Manifest, tmp_path: Path
) -> None:
    done = predict(diffusion, archive.root, tmp_path / "rain.nc", PredictOptions(0, seed=4, picture=False))
    with netcdf_file(tmp_path / "rain.nc", mmap=False) as found:
        assert found.version_byte == 2
        assert found.dimensions == {"member": 3, "time": 4, "y": 32, "x": 32}
        for name, variable in found.variables.items():
            about = variable._attributes
            assert "units" in about, name
            assert "standard_name" in about or "long_name" in about, name
            if variable.dimensions == (name,):
                steps = np.diff(variable[:])
                assert (steps > 0).all() or (steps < 0).all(), name
                assert "_FillValue" not in about, name
        rain = found.variables["rain_rate"]
        assert (rain.dimensions, rain.standard_name, rain.units) == (
            ("member", "time", "y", "x"), b"rainfall_rate", b"mm h-1",
        )  # fmt: skip
        assert {found.variables[c].axis for c in "xy"} == {b"X", b"Y"}
        assert found.variables["member"].standard_name == b"realization"
        assert found.variables["rain_rate_mean"].dimensions == ("time", "y", "x")
        texts = {k: v.decode() if isinstance(v, bytes) else v for k, v in found._attributes.items()}
    config = diffusion.config()
    assert texts["Conventions"] == "CF-1.8"
    assert (texts["run_config_digest"], texts["training_data_digest"]) == (digest(config), shards.digest())
    assert (texts["members"], texts["seed"], texts["event"]) == (3, 4, 0)
    assert texts["warnings"].splitlines() == list(done.warnings)
    assert {"title", "history", "source", "checkpoint_step", "source_revision", "polarcast_version",
            "input_data_digest"} <= set(texts)  # fmt: skip
    assert datetime.fromisoformat(texts["history"].split()[0]).tzinfo
    with xr.open_dataset(tmp_path / "rain.nc") as read:
        assert (read.time - read.time[0]).values.astype("timedelta64[s]").astype(int).tolist() == [0, 360, 720, 1080]
        assert (float(read.y[0]), float(read.x[0])) == (16, -16)
        assert (read.rain_rate >= 0).all()


def test_warnings_are_printed_and_stored(
    shards: Manifest, damaged: Archive, tmp_path: Path, polarcast_here: Callable[..., Result]
) -> None:
    run = finished(shards, tmp_path / "run", *BASELINE)
    change(damaged.radar_file("zh", 1.0, 1, 0), row_3=80)
    change(damaged.radar_file("zdr", 1.0, 1, 0), row_3=0)
    for height in damaged.heights_km:
        change(damaged.radar_file("zh", height, 1, 3), **{f"row_{n}": 0 for n in range(32)})
    for file in damaged.root.rglob("frame_002.npy"):
        file.unlink()
    code, out, err = polarcast_here(
        "predict", run.path, damaged.root, tmp_path / "rain.nc", "--members", 2, "--no-picture", "--json"
    )
    summary = json.loads(out)
    assert (code, summary["frames"], summary["members"], summary["picture"]) == (0, 3, 1, None)
    assert summary["rain_rate_max"] > 1
    assert err.splitlines() == [f"polarcast: warning: {line}" for line in summary["warnings"]]
    for text in (
        "frame 2: not in the input",
        "frame 3: no echo at 1 km",
        "of the echo pixels at 1 km have no ZDR; treated as 0 dB",
        "ZH: 0.3% of the pixels are outside 0 … 65 dBZ (from 0.0 to 80.0)",
        "2 members requested, but the model is deterministic",
    ):
        assert any(text in line for line in summary["warnings"]), (text, summary["warnings"])
    with xr.open_dataset(tmp_path / "rain.nc") as made:
        assert made.attrs["warnings"].splitlines() == summary["warnings"]
        assert made.frame.values.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("archive", (), "8 events — select one with --event; choose from: 0, 1"),
        ("archive", ("--event", 99), "no event 99"),
        ("archive", ("--event", 1, "--frames", "7:9"), "choose from frames 0–3"),
        ("archive", ("--event", 1, "--frames", "three"), "'three' is not a range"),
        ("archive", ("--event", 1, "--members", 0), "--members: 0 is too small"),
        ("no_zdr", ("--event", 1), "the archive has no variable zdr"),
        ("truncated", (), "not a readable npy file"),
        ("letter.txt", (), "not a radar volume in a known format"),
        ("stray.tar", (), "no manifest.json"),
        ("nowhere", (), "nowhere: no such file or folder"),
    ],
)
def test_invalid_input_gives_a_one_line_error_and_no_files(
    given: str, options: tuple[object, ...], message: str,
    baseline: RunFolder, damaged: Archive, archive: Archive, tmp_path: Path, polarcast_here: Callable[..., Result],
) -> None:  # fmt: skip
    places = {"archive": archive.root, "truncated": damaged.root, "no_zdr": damaged.root}
    if given == "truncated":
        damaged.radar_file("zh", 7.0, 1, 2).write_bytes(b"\x93NUMPY")
    elif given == "no_zdr":
        shutil.rmtree(damaged.radar_root / "ZDR")
    elif "." in given:
        (tmp_path / given).write_text("no radar")
    before = set(tmp_path.iterdir())
    place = places.get(given, tmp_path / given)
    code, _, err = polarcast_here("predict", baseline.path, place, tmp_path / "new" / "rain.nc", *options)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err
    assert set(tmp_path.iterdir()) == before


def test_unusable_run_and_grid_are_rejected(
    shards: Manifest, baseline: RunFolder, archive: Archive, tmp_path: Path
) -> None:
    half = RunFolder(Path(shutil.copytree(baseline.path, tmp_path / "half")))
    half.weights_file.unlink()
    with pytest.raises(BadInput, match="not fully trained"):
        predict(half, archive.root, tmp_path / "rain.nc", PredictOptions(1))
    with pytest.raises(BadInput, match="not a run"):
        predict(RunFolder(tmp_path), archive.root, tmp_path / "rain.nc", PredictOptions(1))
    with pytest.raises(BadInput, match=r"must end in \.nc"):
        predict(baseline, archive.root, tmp_path / "rain.png", PredictOptions(1))
    odd = np.zeros((1, 2, 3, 33, 33), np.float32)
    write_event(tmp_path / "odd", 0, odd, None, variables=("zh", "zdr"))
    run = finished(shards, tmp_path / "run", *UNET)
    with pytest.raises(BadInput, match="does not support fields of 33 × 33 pixels"):
        predict(run, tmp_path / "odd", tmp_path / "rain.nc", PredictOptions())
    with pytest.raises(BadInput, match="limited to 2 GiB"):
        predict(run, archive.root, tmp_path / "rain.nc", PredictOptions(1, members=2_000_000))
    assert not list(tmp_path.glob("rain*"))


def test_corrupt_shard_is_rejected(baseline: RunFolder, shards: Manifest, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shards.folder, tmp_path / "shards"))
    damaged_shard = folder / shards.shards[0].name
    content = bytearray(damaged_shard.read_bytes())
    content[len(content) // 2] ^= 1
    damaged_shard.write_bytes(bytes(content))
    with pytest.raises(BadInput, match="SHA-256 differs"):
        predict(baseline, damaged_shard, tmp_path / "rain.nc", PredictOptions())


def test_windows_below_the_training_threshold_are_forecast(
    baseline: RunFolder, archive: Archive, tmp_path: Path
) -> None:
    from polarcast.data.selection import Selection

    write_shards(archive, tmp_path / "strong", split="all-test", selection=Selection(min_strong_pixels=10**6))
    assert predict(baseline, tmp_path / "strong", tmp_path / "rain.nc", PredictOptions(1, picture=False)).frames == 4


def test_figure_shows_frames_spread_over_the_event(
    diffusion: RunFolder, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plot.shown(24) == [0, 8, 15, 23]
    assert plot.shown(2) == [0, 1]
    drawn: list[str] = []
    rows = plot._rows

    def recorded(forecasts: Forecasts) -> object:
        found = rows(forecasts)
        drawn.extend(label for _, label, _ in found)
        return found

    monkeypatch.setattr(plot, "_rows", recorded)
    done = predict(diffusion, archive.root, tmp_path / "new" / "rain.nc", PredictOptions(1, frames=(0, 2)))
    assert done.picture == str(tmp_path / "new" / "rain.png")
    assert Path(done.picture).read_bytes().startswith(b"\x89PNG")
    assert drawn == ["ZH, 1 km", "ZDR, 1 km", "mean of 3 members", "spread of the members", "observed rain rate"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["rain.nc", "rain.png"]
