"""Check that mirrors equal the run's records, resume as one run, leak no secrets and never stop training."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.runs.folder import RunFolder, group_of
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.tracking.mirror import Mirror, open_mirror
from polarcast.hpc.training.train import train
from tests.support import warm
from tests.support.wandb_file import OfflineRun

SMALL = [
    "model.widths=[4,8]", "match_params=false", "train.global_batch=4", "train.warmup_steps=2", "train.steps=8",
    "train.validate_every=4", "train.log_every=2", "train.threads=1", "train.validate_scores=[rmse]",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("sweep") / "trials" / "abc" / "radar")
    train(load_config("demo", [f"data.shards={shards.folder}", *SMALL]), run, World())
    evaluate(run, shards, run.output)
    return run


@pytest.fixture(scope="module")
def replayed(trained: RunFolder) -> OfflineRun:
    mirror = open_mirror(trained, "wandb", "offline")
    assert mirror.update() == 4 + 1
    mirror.finish()
    assert mirror.lost == ""
    return OfflineRun(trained.path)


def test_offline_files_equal_the_records(trained: RunFolder, replayed: OfflineRun) -> None:
    records = list(trained.records())
    losses = {r["step"]: r["loss"] for r in records if r["event"] == "step"}
    assert {s: row["train/loss"] for s, row in replayed.history.items() if "train/loss" in row} == losses
    validations = {r["step"]: (r["loss"], r["scores"]["rmse"]) for r in records if r["event"] == "validation"}
    found = {s: row for s, row in replayed.history.items() if "validation/loss" in row}
    assert {s: (row["validation/loss"], row["validation/rmse"]) for s, row in found.items()} == validations
    assert sorted(validations) == [4, 8]


def test_configuration_and_group_are_sent(trained: RunFolder, replayed: OfflineRun) -> None:
    config = trained.config().to_dict()
    assert {key: replayed.config[key] for key in config} == json.loads(json.dumps(config))
    assert replayed.config["provenance"]["data"] == json.loads(trained.provenance_file.read_text())["data"]
    assert len(replayed.ids) == 1
    assert replayed.groups == {trained.path.parents[2].name}
    assert group_of(Path("runs/demo/cells/unet-radar-s0")) == "demo"
    assert group_of(Path("runs/alone")) is None


def test_scores_images_and_files_are_sent(trained: RunFolder, replayed: OfflineRun) -> None:
    last = replayed.history[max(replayed.history)]
    [table] = [trained.path.glob("wandb/offline-run-*/files/media/table/scores*.json")]
    rows = dict(json.loads(next(table).read_text())["data"])
    records, rmse = read_records(trained.output.scores), parse_score("rmse")
    assert rows["rmse"] == pytest.approx(float(rmse.of(rmse.sums(records).sum(0), records.protocol)))
    assert any("forecasts" in key for key in last)
    assert list(trained.path.glob("wandb/offline-run-*/files/media/images/forecasts*.png"))
    assert {"manifest", "model", "report", "scores"} <= set(replayed.artifacts)


def test_second_replay_sends_nothing(trained: RunFolder, replayed: OfflineRun) -> None:
    files = sorted(trained.path.glob("wandb/offline-run-*"))
    assert replayed.history
    again = open_mirror(trained, "wandb", "offline")
    assert again.update() == 0
    again.finish()
    assert sorted(trained.path.glob("wandb/offline-run-*")) == files


def test_resumed_run_stays_one_run_in_the_tracker(shards: Manifest, tmp_path: Path) -> None:
    settings = [f"data.shards={shards.folder}", *SMALL, "train.track=[wandb,tensorboard]", "train.log_every=1"]
    script = (
        "import sys\nfrom pathlib import Path\nfrom polarcast.hpc.config.load import load_config\n"
        "from polarcast.hpc.runs.folder import RunFolder\nfrom polarcast.hpc.training.train import train\n"
        "from polarcast.hpc.distributed.world import World\nimport os\n"
        "stop = int(sys.argv[2])\n"
        "def on_step(done, total, loss):\n    if done == stop:\n        os._exit(9)\n"
        "train(load_config('demo', sys.argv[3:]), RunFolder(Path(sys.argv[1])), World(), on_step)\n"
    )
    secret = {"WANDB_API_KEY": "k" * 40, "MY_TOKEN": "hush-hush-hush", "WANDB_MODE": "offline"}
    # The child must not attach to this process's W&B service.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    for stop in (6, 0):  # killed after step 6, then to the end
        done = warm.run(
            [sys.executable, "-c", script, str(tmp_path), str(stop), *settings],
            env={**clean, **secret}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == (9 if stop else 0), done.stderr
        assert "tracking stopped" not in done.stderr
    offline = OfflineRun(tmp_path)
    assert len(offline.ids) == 1
    losses = {r["step"]: r["loss"] for r in RunFolder(tmp_path).records() if r["event"] == "step"}
    assert sorted(losses) == list(range(1, 9))
    assert {s: row["train/loss"] for s, row in offline.history.items() if "train/loss" in row} == losses
    assert list((tmp_path / "tensorboard").glob("events*"))
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert b"hush-hush-hush" not in content, path
        assert b"k" * 40 not in content, path


def test_failing_sink_logs_one_warning_and_stops_nothing(trained: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def begin(self, run: RunFolder) -> None:
            raise ConnectionError("no network")

    mirror = Mirror(trained, "broken", Broken())  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert [mirror.update(), mirror.update()] == [0, 0]
        mirror.finish()
    assert len([r for r in caplog.records if "no network" in r.getMessage()]) == 1
    assert mirror.lost == "no network"
    assert not (trained.path / ".tracked-broken.json").exists()


def test_online_mode_without_a_key_stops_only_the_mirror(trained: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    (trained.path / ".tracked-wandb.json").unlink(missing_ok=True)
    mirror = open_mirror(trained, "wandb", "online")
    assert mirror.update() == 0
    assert mirror.lost


def test_unknown_tracker_raises_on_load() -> None:
    with pytest.raises(BadInput, match="choose from: wandb, tensorboard"):
        load_config("demo", ["train.track=[wandbee]"])
