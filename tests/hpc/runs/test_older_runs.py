"""Files of an earlier version are readable: shards, runs, records, checkpoints and configurations."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polarcast.data.check.shards import check_shards
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.leaderboard.entry import find_entries
from polarcast.hpc.leaderboard.ranking import make_boards
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.training.train import train
from tests.support.older_runs import unpack


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack the files of the earlier version into the working directory: their configurations have relative paths."""
    monkeypatch.chdir(unpack(tmp_path))
    return tmp_path


def test_shards_are_read_and_valid(older: Path) -> None:
    manifest = read_manifest(older / "shards")
    assert manifest.digest() == "0a2e004a4657dd004557bb0f60411c75025ca46a017445f5a251ea64b3184091"
    assert all(finding.severity != "error" for finding in check_shards(manifest))


def test_rescoring_a_run_gives_the_same_scores(older: Path) -> None:
    run = RunFolder(older / "qpe")
    before = read_records(run.output.scores)
    after = evaluate(run, read_manifest("shards"), Output(older / "again.parquet", older / "cases.npz"))
    assert after.protocol == before.protocol
    assert after.events.tolist() == before.events.tolist()
    for name, sums in before.sums.items():
        torch.testing.assert_close(torch.from_numpy(after.sums[name]), torch.from_numpy(sums), rtol=1e-3, atol=2)
    whole = [records.sums["continuous"].sum((0, 1, 2)) for records in (before, after)]
    assert whole[1] == pytest.approx(whole[0], rel=1e-4)


def test_records_lack_the_scores_added_since(older: Path) -> None:
    records = read_records(RunFolder(older / "qpe").output.scores)
    for text in ("ssim", "crps@pool=4,pooling=average", "observed_share"):
        with pytest.raises(BadInput, match=r"do not contain .*evaluate the run again"):
            parse_score(text).sums(records)
    for text in ("kge", "msess", "sal_s", "lost_variance", "fss@threshold=1,window=3"):
        score = parse_score(text)
        assert score.of(score.sums(records).sum(0), records.protocol).shape == ()
        assert score.support(records).sum() > 0


def test_run_with_a_base_loads(older: Path) -> None:
    run = RunFolder(older / "residual")
    model = load_model(run, World())
    assert {name.split(".")[0] for name in model.state_dict()} >= {"base", "denoising"}
    assert run.config().base.config == RunFolder(older / "qpe").config()


def test_interrupted_run_resumes_to_the_same_weights(older: Path) -> None:
    run = RunFolder(older / "nowcast")
    train(run.config(), run, World())
    expected, found = load_file(older / "nowcast-final.safetensors"), load_file(run.weights_file)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)
    starts = [record["step"] for record in run.records() if record["event"] == "start"]
    assert starts == [0, 4]


def test_run_resumes_with_renamed_settings(older: Path) -> None:
    run = RunFolder(older / "qpe")
    present = ["data.flip_rotate=true", "data.concentration_jitter_db=2", "train.log_every=1"]
    run.start(load_config(run.config_file, present))
    stored = run.config_file.read_text()
    assert "flip_rotate: true" in stored
    assert "turn:" not in stored


def test_former_names_work_with_one_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    load_config.__globals__["_advise"].cache_clear()
    current = load_config("demo", ["data.flip_rotate=true", "data.concentration_jitter_db=2"])
    with caplog.at_level(logging.WARNING, "polarcast"):
        for _ in range(2):
            assert load_config("demo", ["data.turn=true", "data.thicken_db=2"]) == current
    assert [record.getMessage() for record in caplog.records] == [
        "polarcast: data.turn was renamed to data.flip_rotate; the former name still works",
        "polarcast: data.thicken_db was renamed to data.concentration_jitter_db; the former name still works",
    ]


def test_stored_configuration_is_read_without_warning(older: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_config.__globals__["_advise"].cache_clear()
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert RunFolder(older / "qpe").config().data.flip_rotate
    assert not caplog.records


def test_leaderboard_ranks_the_run(older: Path) -> None:
    board = make_boards(find_entries([older]), None)[0].as_record()
    assert [place["run"] for place in board["places"]] == ["qpe"]


def test_later_layer_wins_under_either_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {turn: true, concentration_jitter_db: 1}")
    config = load_config(file, ["data.flip_rotate=false", "data.thicken_db=2"])
    assert (config.data.flip_rotate, config.data.concentration_jitter_db) == (False, 2)


def test_key_under_both_names_is_refused() -> None:
    with pytest.raises(
        BadInput, match=r"data\.flip_rotate: is also given as data.turn, its former name — give it once"
    ):
        load_config("demo", ["data.turn=false", "data.flip_rotate=true"])


def test_typing_error_in_a_former_name_suggests_the_current_one() -> None:
    with pytest.raises(BadInput, match=r"did you mean data\.flip_rotate"):
        load_config("demo", ["data.turns=true"])
