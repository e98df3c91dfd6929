"""Nowcasts as files: the ones that are scored, after any frame that has enough before it, the newest by default."""

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
from polarcast.hpc.inference.predict import Asked, predict
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.query import parse_score
from tests.support.finished_run import finished

SEEN, AHEAD, FRAMES = 3, 2, 7
NOWCAST = ("task=nowcast", f"data.seen_frames={SEEN}", f"data.lead_frames={AHEAD}", "data.heights_km=[1.0,3.0]",
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
    alone = archive.select(("zh",), [1.0, 3.0])
    return np.stack([alone.read_radar(event, frame) for frame in frames])[:, 0].astype(np.float16)


def test_nowcasts_after_every_frame_equal_their_evaluation(
    furenet: RunFolder, storms: Archive, packed: Manifest, tmp_path: Path
) -> None:
    records = evaluate(furenet, packed, furenet.output)
    [event] = packed.splits["test"]
    errors = []
    for issued in range(SEEN - 1, FRAMES - AHEAD):
        predict(furenet, storms.root, tmp_path / "next.nc", Asked(event, issued=issued, picture=False))
        truth = observed(storms, event, range(issued + 1, issued + 1 + AHEAD))
        errors.append((zh_of(tmp_path / "next.nc")[0].astype(np.float64) - truth) ** 2)
    wanted = parse_score("rmse")
    scored = wanted.of(wanted.sums(records)[0], records.protocol)
    assert np.sqrt(np.mean(errors)) == pytest.approx(float(scored), rel=1e-5)


def test_what_comes_after_the_newest_frame_needs_no_frame_after_it(
    furenet: RunFolder, storms: Archive, packed: Manifest, tmp_path: Path
) -> None:
    event = 0
    done = predict(furenet, packed.folder, tmp_path / "next.nc", Asked(event))
    assert (done.issued, done.frames, done.members) == (FRAMES - 1, AHEAD, 1)
    assert (tmp_path / "next.png").read_bytes().startswith(b"\x89PNG")
    again = predict(furenet, storms.root, tmp_path / "again.nc", Asked(event, issued=FRAMES - 1, picture=False))
    assert (zh_of(tmp_path / "next.nc") == zh_of(tmp_path / "again.nc")).all()
    assert done.zh_max == again.zh_max == pytest.approx(zh_of(tmp_path / "next.nc").max(), abs=1e-3)


def test_the_file_tells_when_it_was_issued_and_what_each_time_is_for(
    packed: Manifest, storms: Archive, tmp_path: Path
) -> None:
    pytest.importorskip("pysteps")
    run = finished(packed, tmp_path / "steps", *STEPS)
    predict(run, storms.root, tmp_path / "next.nc", Asked(1, issued=4))
    with xr.open_dataset(tmp_path / "next.nc") as found:
        assert found.zh.dims == ("member", "time", "height", "y", "x")
        assert found.zh.shape == (3, AHEAD, 2, 32, 32)
        assert found.zh.attrs["standard_name"] == "equivalent_reflectivity_factor"
        assert found.height.values.tolist() == [1.0, 3.0]
        ahead = (found.time - found.forecast_reference_time).values.astype("timedelta64[s]").astype(int)
        assert ahead.tolist() == [360, 720]
        assert found.forecast_period.values.astype("timedelta64[s]").astype(int).tolist() == [360, 720]
        assert found.zh_mean.values == pytest.approx(found.zh.values.mean(0), abs=1e-4)
        assert "after frame 4" in found.attrs["title"]
    assert len(np.unique(zh_of(tmp_path / "next.nc"), axis=0)) == 3


@pytest.mark.parametrize(("asked", "told"), [
    (Asked(0, issued=1), "no 3 frames in a row end with frame 1"),
    (Asked(0, issued=7), "it can be frames 2–6"),
    (Asked(0, frames=(1, 3)), "--issued"),
])  # fmt: skip
def test_frames_that_are_not_there_are_refused_and_nothing_is_written(
    furenet: RunFolder, packed: Manifest, tmp_path: Path, asked: Asked, told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        predict(furenet, packed.folder, tmp_path / "next.nc", asked)
    assert not list(tmp_path.iterdir())


def test_an_event_too_short_to_see_is_refused(furenet: RunFolder, tmp_path: Path) -> None:
    write_archive(tmp_path / "short", 1, size=32, seed=5, preset="tiny", frames=SEEN - 1)
    with pytest.raises(BadInput, match="the run sees 3 frames in a row"):
        predict(furenet, tmp_path / "short", tmp_path / "next.nc", Asked())


def test_the_command_line_says_after_which_frame(furenet: RunFolder, packed: Manifest, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    words = [
        "predict",
        str(furenet.path),
        str(packed.folder),
        str(tmp_path / "next.nc"),
        "--event",
        "2",
        "--no-picture",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "2 frames after frame 6 of event 002, up to" in done.output
