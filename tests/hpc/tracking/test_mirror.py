"""Check that mirrors equal the run's records, resume as one run, leak no secrets and never stop training."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
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
from polarcast.hpc.tracking import live
from polarcast.hpc.tracking.live import LiveMirrors
from polarcast.hpc.tracking.mirror import Mirror, open_mirror
from polarcast.hpc.training.together import Member, train_together
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


FOLLOWED = """
import sys
from pathlib import Path
import polarcast.hpc.tracking.live as live
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.together import Member, train_together
from polarcast.hpc.training.train import train
live.SECONDS = 0.0
def on_step(done, total, loss):
    if done == 7:
        print("waiting", flush=True)
        sys.stdin.read()  # until the parent has seen the records, and kills
train(load_config("demo", sys.argv[2:]), RunFolder(Path(sys.argv[1])), World(), on_step)
"""


def losses_in_tensorboard(run: Path) -> int:
    return sum(path.read_bytes().count(b"train/loss") for path in (run / "tensorboard").glob("events*"))


def test_records_are_mirrored_before_the_first_validation(shards: Manifest, tmp_path: Path) -> None:
    """Killed before it validates or ends, a training has its records in the files of both trackers."""
    settings = [f"data.shards={shards.folder}", *SMALL, "train.track=[wandb,tensorboard]", "train.log_every=1",
                "train.validate_every=8"]  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    command = [sys.executable, "-c", FOLLOWED, str(tmp_path), *settings]
    pipe = subprocess.PIPE
    child = warm.Popen(command, env={**clean, "WANDB_MODE": "offline"}, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        deadline = time.monotonic() + 60
        # The newest record waits for its validation, and W&B keeps the one before until it is complete.
        while not ({1, 2, 3, 4, 5} <= set(OfflineRun(tmp_path).history) and losses_in_tensorboard(tmp_path) >= 5):
            assert time.monotonic() < deadline, "nothing was mirrored"
            time.sleep(0.05)
        child.kill()
    run = RunFolder(tmp_path)
    losses = {r["step"]: r["loss"] for r in run.records() if r["event"] == "step"}
    history = OfflineRun(tmp_path).history
    assert not any("validation/loss" in row for row in history.values())
    assert {step: row["train/loss"] for step, row in history.items()} == {s: losses[s] for s in history}
    assert losses_in_tensorboard(tmp_path) < 8
    assert not (tmp_path / ".tracked-wandb.json").exists()  # a resumed training sends them again


def test_nets_trained_at_once_are_a_run_each(shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are open in one process at the same time."""
    monkeypatch.setattr(live, "SECONDS", 0.0)
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = [f"data.shards={shards.folder}", *SMALL, "train.track=[wandb]", "train.log_every=1"]
    members = [Member(load_config("demo", [*given, f"seed={n}"]), RunFolder(tmp_path / f"s{n}")) for n in (0, 1)]
    train_together(members)
    for member in members:
        sent = OfflineRun(member.run.path)
        losses = {r["step"]: r["loss"] for r in member.run.records() if r["event"] == "step"}
        assert {s: row["train/loss"] for s, row in sent.history.items() if "train/loss" in row} == losses
        assert len(losses) == 8
        assert len(sent.ids) == 1
    assert OfflineRun(members[0].run.path).ids != OfflineRun(members[1].run.path).ids


class Listed:
    """Sink that keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def begin(self, run: RunFolder) -> None:
        pass

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.sent.append((step, dict(values)))

    def evaluated(self, run: RunFolder) -> None:
        pass

    def finish(self) -> None:
        self.finished += 1


def test_a_validation_is_sent_with_its_step(tmp_path: Path) -> None:
    run, sink = RunFolder(tmp_path), Listed()
    mirror = Mirror(run, "listed", sink)
    for step in (1, 2):
        run.log(event="step", step=step, loss=float(step))
    assert mirror.update(is_final=False) == 1
    run.log(event="validation", step=2, loss=0.5)
    run.log(event="step", step=3, loss=3.0)
    with run.log_file.open("a") as stream:
        stream.write('{"event": "step", "step": 4, ')  # being written
    assert mirror.update(is_final=False) == 1
    with run.log_file.open("a") as stream:
        stream.write('"loss": 4.0}\n')
    mirror.finish()
    assert [step for step, _ in sink.sent] == [1, 2, 3, 4]
    assert sink.sent[1][1] == {"train/loss": 2.0, "validation/loss": 0.5}
    again = Mirror(run, "listed", sink)
    again.finish()
    assert len(sink.sent) == 4


def test_live_mirrors_send_the_rest_at_the_end_and_nothing_after_an_error(tmp_path: Path) -> None:
    run, sink = RunFolder(tmp_path), Listed()
    run.log(event="step", step=1, loss=1.0)
    with pytest.raises(ZeroDivisionError), LiveMirrors([Mirror(run, "listed", sink)]):
        raise ZeroDivisionError
    assert (sink.sent, sink.finished) == ([], 0)
    with LiveMirrors([Mirror(run, "listed", sink)]) as mirrors:
        run.log(event="step", step=2, loss=2.0)
        mirrors.logged()
    assert [step for step, _ in sink.sent] == [1, 2]
    assert sink.finished == 1
    with LiveMirrors([]) as none:
        none.logged()


def test_a_step_does_not_wait_for_a_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a tracker starts, which may take a minute, records go on."""
    run, sink, started, go_on = RunFolder(tmp_path), Listed(), threading.Event(), threading.Event()

    def begin(run: RunFolder) -> None:
        started.set()
        assert go_on.wait(60)

    monkeypatch.setattr(sink, "begin", begin)
    monkeypatch.setattr(live, "SECONDS", 0.0)
    with LiveMirrors([Mirror(run, "listed", sink)]) as mirrors:
        for step in (1, 2):
            run.log(event="step", step=step, loss=1.0)
            mirrors.logged()
        assert started.wait(60)
        run.log(event="step", step=3, loss=1.0)
        mirrors.logged()
        assert sink.sent == []
        go_on.set()
    assert [step for step, _ in sink.sent] == [1, 2, 3]


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
