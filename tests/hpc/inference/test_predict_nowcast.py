"""Nowcast files: equal to evaluation, and issued after any frame with enough frames before it."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from polarcast.data.archive import Archive, open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.cli.app import app
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.inference.predict import PredictOptions, predict
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.query import parse_score
from tests.support.finished_run import finished

INPUT, LEAD, FRAMES = 3, 2, 7
NOWCAST = ("task=nowcast", f"data.seen_frames={INPUT}", f"data.lead_frames={LEAD}", "data.heights_km=[1.0,3.0]",
           "match_params=false", "train.threads=1")  # fmt: skip
FURENET = (*NOWCAST, "model.name=furenet", "model.widths=[4,6]", "model.squeeze=2")
STEPS = (*NOWCAST, "model.name=steps", "arm=radar", "evaluate.members=3")


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    root = tmp_path_factory.mktemp("storms")
    write_archive(root, 4, size=32, seed=5, preset="tiny", frames=FRAMES)
    return open_archive(root)


@pytest.fixture(scope="module")
def packed(storms: Archive, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("packed") / "shards"
    write_shards(storms, out, split="0.5/0.25/0.25")
    return read_manifest(out)


@pytest.fixture(scope="module")
def furenet(packed: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished(packed, tmp_path_factory.mktemp("runs") / "furenet", *FURENET)


def zh_of(file: Path, name: str = "zh") -> np.ndarray:
    with xr.open_dataset(file) as found:
        return np.asarray(found[name].values)


def observed(archive: Archive, event: int, frames: range) -> np.ndarray:
    """zh (t, z, y, x) at 1 and 3 km, in the half precision of shards."""
    selected = archive.select(("zh",), [1.0, 3.0])
    return np.stack([selected.read_radar(event, frame) for frame in frames])[:, 0].astype(np.float16)


def is_scored(archive: Archive, event: int, frames: range) -> np.ndarray:
    """Observed pixels (t, z, y, x) at 1 and 3 km."""
    masks = archive.select(("zh",), [1.0, 3.0]).read_observed(event, (32, 32))
    assert masks is not None
    return np.stack([masks.masks(frame)[:2] for frame in frames])


def test_nowcasts_after_every_frame_equal_their_evaluation(
    furenet: RunFolder, storms: Archive, packed: Manifest, tmp_path: Path
) -> None:
    records = evaluate(furenet, packed, furenet.output)
    [event] = packed.splits["test"]
    errors = []
    for issued in range(INPUT - 1, FRAMES - LEAD):
        predict(furenet, storms.root, tmp_path / "next.nc", PredictOptions(event, issued=issued, picture=False))
        frames = range(issued + 1, issued + 1 + LEAD)
        error = zh_of(tmp_path / "next.nc")[0].astype(np.float64) - observed(storms, event, frames)
        errors.append(error[is_scored(storms, event, frames)] ** 2)
    wanted = parse_score("rmse")
    scored = wanted.of(wanted.sums(records)[0], records.protocol)
    assert np.sqrt(np.concatenate(errors).mean()) == pytest.approx(float(scored), rel=1e-5)


def test_nowcast_after_the_latest_frame(furenet: RunFolder, storms: Archive, packed: Manifest, tmp_path: Path) -> None:
    event = 0
    done = predict(furenet, packed.folder, tmp_path / "next.nc", PredictOptions(event))
    assert (done.issued, done.frames, done.members) == (FRAMES - 1, LEAD, 1)
    assert (tmp_path / "next.png").read_bytes().startswith(b"\x89PNG")
    again = predict(
        furenet, storms.root, tmp_path / "again.nc", PredictOptions(event, issued=FRAMES - 1, picture=False)
    )
    assert (zh_of(tmp_path / "next.nc") == zh_of(tmp_path / "again.nc")).all()
    assert done.zh_max == again.zh_max == pytest.approx(zh_of(tmp_path / "next.nc").max(), abs=1e-3)


def test_file_has_reference_and_valid_times(packed: Manifest, storms: Archive, tmp_path: Path) -> None:
    pytest.importorskip("pysteps")
    run = finished(packed, tmp_path / "steps", *STEPS)
    predict(run, storms.root, tmp_path / "next.nc", PredictOptions(1, issued=4))
    with xr.open_dataset(tmp_path / "next.nc") as found:
        assert found.zh.dims == ("member", "time", "height", "y", "x")
        assert found.zh.shape == (3, LEAD, 2, 32, 32)
        assert found.zh.attrs["standard_name"] == "equivalent_reflectivity_factor"
        assert found.height.values.tolist() == [1.0, 3.0]
        ahead = (found.time - found.forecast_reference_time).values.astype("timedelta64[s]").astype(int)
        assert ahead.tolist() == [360, 720]
        assert found.forecast_period.values.astype("timedelta64[s]").astype(int).tolist() == [360, 720]
        assert found.zh_mean.values == pytest.approx(found.zh.values.mean(0), abs=1e-4)
        assert "after frame 4" in found.attrs["title"]
    assert len(np.unique(zh_of(tmp_path / "next.nc"), axis=0)) == 3


@pytest.mark.parametrize(("options", "message"), [
    (PredictOptions(0, issued=1), "no 3 consecutive frames end with frame 1"),
    (PredictOptions(0, issued=7), "choose from frames 2–6"),
    (PredictOptions(0, frames=(1, 3)), "--issued"),
])  # fmt: skip
def test_missing_frames_are_rejected_and_nothing_is_written(
    furenet: RunFolder, packed: Manifest, tmp_path: Path, options: PredictOptions, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        predict(furenet, packed.folder, tmp_path / "next.nc", options)
    assert not list(tmp_path.iterdir())


def test_event_with_too_few_frames_is_rejected(furenet: RunFolder, tmp_path: Path) -> None:
    write_archive(tmp_path / "short", 1, size=32, seed=5, preset="tiny", frames=INPUT - 1)
    with pytest.raises(BadInput, match="the run needs 3 consecutive frames"):
        predict(furenet, tmp_path / "short", tmp_path / "next.nc", PredictOptions())


def test_command_line_reports_the_last_input_frame(furenet: RunFolder, packed: Manifest, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    arguments = [
        "predict",
        str(furenet.path),
        str(packed.folder),
        str(tmp_path / "next.nc"),
        "--event",
        "2",
        "--no-picture",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "2 frames after frame 6 of event 002, up to" in done.output
