"""Profile of training steps: files, summary, and the same results with and without."""

import gzip
import json
import sys
from pathlib import Path

import pytest
import torch

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.digest import digest
from polarcast.hpc.distributed.world import World, detect
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.profiler import StepProfile
from polarcast.hpc.training.train import train
from tests.hpc.training.test_engine import configure, losses, train_here, train_on, weights
from tests.support import warm


def test_a_profile_prints_its_summary_only(shards: Manifest, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "polarcast.hpc.cli", "train", "demo", f"data.shards={shards.source.location}",
        "model.widths=[4,8]", "match_params=false", "train.steps=5", "train.profile=2", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    done = warm.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "profile of 2 steps" in done.stderr
    assert "USDT" not in done.stderr  # a line of torch's profiler


def traces(run: RunFolder) -> list[str]:
    return sorted(path.name for path in (run.path / "profile").iterdir())


def test_profile_changes_no_result_and_no_digest(
    shards: Manifest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profiled = train_here(configure(shards, "train.profile=2", "train.steps=8"), tmp_path / "profiled")
    printed = capfd.readouterr()
    plain = train_here(configure(shards, "train.steps=8"), tmp_path / "plain")
    assert losses(profiled) == losses(plain)
    assert weights(profiled) == weights(plain)
    assert digest(profiled.config()) == digest(plain.config())
    assert not (plain.path / "profile").exists()
    assert traces(profiled) == ["step-00000004-rank-0.json.gz"]
    with gzip.open(profiled.path / "profile" / traces(profiled)[0]) as stream:
        names = [event.get("name") for event in json.load(stream)["traceEvents"]]
    assert names.count("polarcast: step") == names.count("polarcast: wait for data") == 2
    (record,) = (r for r in profiled.records() if r["event"] == "profile")
    assert (record["step"], record["steps"], record["trace"]) == (5, 2, f"profile/{traces(profiled)[0]}")
    assert 0 <= record["waiting"] < 1
    assert any("convolution" in row["name"] for row in record["operators"])
    assert sum(row["share"] for row in record["operators"]) <= 1.001
    assert "profile of 2 steps" in printed.err
    assert "ui.perfetto.dev" in printed.err
    assert not printed.out


def test_resumed_run_profiles_again_from_its_own_start(shards: Manifest, tmp_path: Path) -> None:
    class Stop(Exception):
        """Raised by the test in the middle of a run."""

    def stop(done: int, *_: object) -> None:
        if done == 5:
            raise Stop

    config, run = configure(shards, "train.profile=2"), RunFolder(tmp_path / "run")
    with pytest.raises(Stop):
        train(config, run, detect({}), stop)
    assert traces(run) == ["step-00000004-rank-0.json.gz"]
    train(config, run, detect({}))
    assert traces(run) == ["step-00000004-rank-0.json.gz", "step-00000008-rank-0.json.gz"]
    assert losses(run) == losses(train_here(configure(shards), tmp_path / "plain"))


def test_end_of_the_run_cuts_a_profile_short(shards: Manifest, tmp_path: Path) -> None:
    run = train_here(configure(shards, "train.profile=100", "train.steps=5"), tmp_path / "run")
    (record,) = (r for r in run.records() if r["event"] == "profile")
    assert record["steps"] == 2


def test_run_that_ends_before_its_profile_says_so(
    shards: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train_here(configure(shards, "train.profile=2", "train.steps=3"), tmp_path / "run")
    assert "no step was profiled" in caplog.text
    assert not (run.path / "profile").exists()


def test_validations_between_steps_are_no_part_of_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("polarcast.hpc.training.profiler.time.perf_counter", lambda: clock[0])
    run, profile = RunFolder(tmp_path), StepProfile(RunFolder(tmp_path), World(), 2, 0, torch.device("cpu"))
    for step in (3, 4):
        profile.begin_step(step)
        torch.ones(3).exp()
        clock[0] += 0.5
        profile.end_step()
        clock[0] += 100.0  # a validation
    (record,) = run.records()
    assert record["milliseconds"] == 500


def test_error_during_a_profile_leaves_no_file(shards: Manifest, tmp_path: Path) -> None:
    def fail(done: int, *_: object) -> None:
        if done == 5:
            raise RuntimeError("in the middle")

    run = RunFolder(tmp_path / "run")
    with pytest.raises(RuntimeError, match="in the middle"):
        train(configure(shards, "train.profile=4"), run, World(), fail)
    assert not (run.path / "profile").exists()
    train(configure(shards), run, World())
    assert run.is_trained


def test_second_profile_of_a_process_is_left_out(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    profiles = [StepProfile(RunFolder(folder), World(), 1, 0, torch.device("cpu")) for folder in folders]
    for folder in folders:
        folder.mkdir()
    for profile in profiles:
        profile.begin_step(3)
    torch.ones(3).exp()
    for profile in reversed(profiles):
        profile.end_step()
    assert [(folder / "profile").exists() for folder in folders] == [True, False]


@pytest.mark.multiprocess
def test_each_rank_writes_its_own_trace(shards: Manifest, tmp_path: Path) -> None:
    run = train_on(2, shards, tmp_path / "run", "train.profile=2", "train.engine=ddp", "train.steps=8")
    assert traces(run) == [f"step-00000004-rank-{rank}.json.gz" for rank in (0, 1)]
    (record,) = (r for r in run.records() if r["event"] == "profile")
    assert 0 < record["exchange"] < 1
