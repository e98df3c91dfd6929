"""What an earlier version wrote is read: shards, runs, records, checkpoints and configurations."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polarcast.data.check.shards import check_shards
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.leaderboard.entry import find_entries
from polarcast.hpc.leaderboard.ranking import make_boards
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.training.train import train
from tests.support.older_runs import unpack


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the earlier version, in the working directory: their configurations name shards relatively."""
    monkeypatch.chdir(unpack(tmp_path))
    return tmp_path


def test_shards_are_read_and_whole(older: Path) -> None:
    manifest = read_manifest(older / "shards")
    assert manifest.digest() == "0a2e004a4657dd004557bb0f60411c75025ca46a017445f5a251ea64b3184091"
    assert all(finding.severity != "error" for finding in check_shards(manifest))


def test_a_scored_run_has_the_same_scores_when_it_is_scored_again(older: Path) -> None:
    run = RunFolder(older / "qpe")
    before = read_records(run.output.scores)
    after = evaluate(run, read_manifest("shards"), Output(older / "again.parquet", older / "cases.npz"))
    assert after.protocol == before.protocol
    assert after.events.tolist() == before.events.tolist()
    for name, sums in before.sums.items():
        torch.testing.assert_close(torch.from_numpy(after.sums[name]), torch.from_numpy(sums), rtol=1e-3, atol=2)
    whole = [records.sums["continuous"].sum((0, 1, 2)) for records in (before, after)]
    assert whole[1] == pytest.approx(whole[0], rel=1e-4)


def test_a_run_on_top_of_another_forecasts(older: Path) -> None:
    run = RunFolder(older / "residual")
    model = load_model(run, World())
    assert {name.split(".")[0] for name in model.state_dict()} >= {"base", "denoising"}
    assert run.config().base.config == RunFolder(older / "qpe").config()


def test_an_interrupted_run_goes_on_from_its_checkpoint_to_the_same_weights(older: Path) -> None:
    run = RunFolder(older / "nowcast")
    train(run.config(), run, World())
    expected, found = load_file(older / "nowcast-final.safetensors"), load_file(run.weights_file)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)
    starts = [record["step"] for record in run.records() if record["event"] == "start"]
    assert starts == [0, 4]


def test_a_run_is_continued_with_the_present_names_of_its_settings(older: Path) -> None:
    run = RunFolder(older / "qpe")
    present = ["data.flip_rotate=true", "data.concentration_jitter_db=2", "train.log_every=1"]
    run.start(load_config(run.config_file, present))
    stored = run.config_file.read_text()
    assert "flip_rotate: true" in stored
    assert "turn:" not in stored


def test_former_names_are_read_with_one_line_of_advice_each(caplog: pytest.LogCaptureFixture) -> None:
    load_config.__globals__["_advise"].cache_clear()
    current = load_config("demo", ["data.flip_rotate=true", "data.concentration_jitter_db=2"])
    with caplog.at_level(logging.WARNING, "polarcast"):
        for _ in range(2):
            assert load_config("demo", ["data.turn=true", "data.thicken_db=2"]) == current
    assert [record.getMessage() for record in caplog.records] == [
        "polarcast: data.turn is called data.flip_rotate now; the former name is still read",
        "polarcast: data.thicken_db is called data.concentration_jitter_db now; the former name is still read",
    ]


def test_a_stored_configuration_is_read_without_advice(older: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_config.__globals__["_advise"].cache_clear()
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert RunFolder(older / "qpe").config().data.flip_rotate
    assert not caplog.records


def test_a_leaderboard_ranks_it(older: Path) -> None:
    board = make_boards(find_entries([older]), None)[0].as_record()
    assert [place["run"] for place in board["places"]] == ["qpe"]
