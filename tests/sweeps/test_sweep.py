"""Sweeps with real trainings: Ray, workers, kill and resume, paired arms, failing trials."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.runs.folder import RunFolder
from polarcast.sweeps.record import COMPLETE, FAILED, REPLACED, RUNNING, STOPPED, Trial, read_trials
from tests.support import warm

pytestmark = [pytest.mark.multiprocess, pytest.mark.xdist_group("sweeps")]

SPACE = """
preset: demo
set:
  arm: radar
  match_params: false
  train: {{steps: {steps}, validate_every: {every}, global_batch: 4, warmup_steps: 2, log_every: 1, threads: 1}}
  data: {{shards: {shards}}}
objective: validation/rmse
search: {search}
trials: {trials}
early_stopping: {stops}
parameters:
  model.widths: {{choice: {widths}}}
  train.learning_rate: {learning_rate}
"""


def space_file(folder: Path, shards: Manifest, **changes: Any) -> str:
    values = {
        "search": "random",
        "trials": 3,
        "stops": "false",
        "steps": 24,
        "every": 8,
        "widths": "[[4, 8], [6, 8]]",
        "learning_rate": "{log_uniform: [1.0e-3, 1.0e-2]}",
    }
    (folder / "small.yaml").write_text(SPACE.format(**{**values, "shards": shards.folder, **changes}))
    return str(folder / "small.yaml")


def polarcast(*words: object, **more: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "polarcast.hpc.cli", *map(str, words)]
    return warm.run(command, capture_output=True, text=True, check=False, **more)


def sweep(*words: object) -> dict[str, Any]:
    done = polarcast("sweep", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def losses(trial: Trial, folder: Path, arm: str = "radar") -> list[float]:
    records = RunFolder(folder / "trials" / trial.key / arm).records()
    return [record["loss"] for record in records if record["event"] == "step"]


def test_killed_sweep_keeps_complete_trials_and_resumes(shards: Manifest, tmp_path: Path) -> None:
    space, folder = space_file(tmp_path, shards), tmp_path / "killed"
    process = warm.Popen(
        [sys.executable, "-m", "polarcast.hpc.cli", "sweep", space, "--out", str(folder), "--at-once", "1"],
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while not (training := [t.key for t in read_trials(folder)[1:] if t.state == RUNNING and t.step]):
        assert time.monotonic() < deadline, "no second trial reached a validation"
        assert process.poll() is None, "the sweep ended"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {trial.key: trial for trial in read_trials(folder)}
    done = [trial for trial in before.values() if trial.state == COMPLETE]
    assert done
    assert polarcast("sweep", space, "--out", folder).returncode == 2
    result = sweep(space, "--out", folder, "--resume", "--at-once", "1")
    assert result["states"] == {"complete": 3, "stopped": 0, "replaced": 0, "failed": 0, "running": 0}
    after = {trial.key: trial for trial in read_trials(folder)}
    assert all(after[trial.key] == trial for trial in done)
    # The interrupted trial has the losses of an uninterrupted run of the same configuration.
    [interrupted] = training
    again = tmp_path / "again"
    assert polarcast("train", folder / "trials" / interrupted / "radar" / "config.yaml", "--out", again).returncode == 0
    expected = [record["loss"] for record in RunFolder(again).records() if record["event"] == "step"]
    assert losses(after[interrupted], folder) == pytest.approx(expected, rel=1e-5)
    resumed = sweep(space, "--out", folder, "--resume")
    assert resumed["trials"] == result["trials"]


def test_worker_takes_over_the_trial_of_a_killed_worker(shards: Manifest, tmp_path: Path) -> None:
    space, folder = space_file(tmp_path, shards, trials=4), tmp_path / "shared"
    command = [sys.executable, "-m", "polarcast.hpc.cli", "sweep", space, "--out", str(folder), "--worker"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first, second = (warm.Popen(command, **quiet, start_new_session=True) for _ in range(2))
    deadline = time.monotonic() + 180
    while len([trial for trial in read_trials(folder) if trial.state == RUNNING]) < 2:
        assert time.monotonic() < deadline, "two trials never ran at the same time"
        time.sleep(0.02)
    first.kill()
    assert second.wait(300) == 0
    trials = read_trials(folder)
    assert [trial.state for trial in trials] == [COMPLETE] * 4
    assert all([report.step for report in trial.reports] == [8, 16, 24] for trial in trials)
    # A late worker has nothing left to do.
    assert sweep(space, "--out", folder, "--worker")["states"]["complete"] == 4


def test_paired_sweep_trains_both_arms_on_the_same_points_and_steps(shards: Manifest, tmp_path: Path) -> None:
    rates = "{log_uniform: [1.0e-6, 1.0e-2]}"
    space = space_file(tmp_path, shards, trials=4, stops="true", search="optuna", learning_rate=rates)
    result = sweep(space, "--out", tmp_path / "pairs", "--paired", "--worker")
    trials = read_trials(tmp_path / "pairs")
    assert {trial.state for trial in trials} <= {COMPLETE, STOPPED}
    assert result["paired"]["points"] == sum(trial.state == COMPLETE for trial in trials) > 0
    for trial in trials:
        assert all(set(report.by_arm) == {"radar", "dualpol"} for report in trial.reports)
        configs = [RunFolder(tmp_path / "pairs" / "trials" / trial.key / arm).config() for arm in ("radar", "dualpol")]
        assert [config.arm for config in configs] == ["radar", "dualpol"]
        assert configs[0].train == configs[1].train
        assert configs[0].model == configs[1].model


def test_failed_trial_is_recorded_and_the_sweep_continues(shards: Manifest, tmp_path: Path) -> None:
    space = space_file(tmp_path, shards, search="grid", widths="[[4, 8]]", learning_rate="{choice: [0.003, 1000.0]}")
    result = sweep(space, "--out", tmp_path / "fails")
    assert result["states"] == {"complete": 1, "stopped": 0, "replaced": 0, "failed": 1, "running": 0}
    [failed] = [trial for trial in read_trials(tmp_path / "fails") if trial.state == FAILED]
    assert failed.point["train.learning_rate"] == 1000
    assert "lower train.learning_rate" in failed.reason
    assert result["best"]["train.learning_rate"] == 0.003


def test_population_continues_from_good_members(shards: Manifest, tmp_path: Path) -> None:
    # One of the two members hardly learns, and is replaced at a validation while the other trains. Members don't wait
    # for each other, so training must take longer than the difference between their starts.
    rates, length = "{log_uniform: [1.0e-8, 3.0e-3]}", {"steps": 800, "every": 200}
    space = space_file(tmp_path, shards, search="pbt", trials=2, widths="WIDTHS", learning_rate=rates, **length)
    Path(space).write_text(Path(space).read_text().replace("  model.widths: {choice: WIDTHS}\n", ""))
    folder = tmp_path / "population"
    result = sweep(space, "--out", folder)
    trials = {trial.key: trial for trial in read_trials(folder)}
    assert result["states"]["complete"] == 2
    assert result["states"]["replaced"] == len(trials) - 2 > 0
    for trial in filter(lambda trial: trial.parent, trials.values()):
        donor, step = trial.parent.split("@")
        assert trials[donor].member != trial.member
        run = RunFolder(folder / "trials" / trial.key / "radar")
        steps = [r["step"] for r in run.records() if r["event"] == "step"]
        assert steps == list(range(int(step) + 1, steps[-1] + 1))
        assert steps[-1] == 800 or trial.state == REPLACED
        assert run.config().train.learning_rate == trial.point["train.learning_rate"]
    replaced = [trial for trial in trials.values() if trial.state == REPLACED]
    assert all(any(t.member == r.member and t.key in r.reason for t in trials.values() if t.parent) for r in replaced)
    assert polarcast("sweep", space, "--out", folder, "--resume", "--worker").returncode == 2
    assert sweep(space, "--out", folder, "--resume")["trials"] == result["trials"]


def test_another_space_in_the_same_folder_is_rejected(shards: Manifest, tmp_path: Path) -> None:
    space = space_file(tmp_path, shards, trials=1)
    sweep(space, "--out", tmp_path / "one", "--worker")
    other = space_file(tmp_path, shards, trials=1, learning_rate="{uniform: [0.001, 0.002]}")
    done = polarcast("sweep", other, "--out", tmp_path / "one", "--resume")
    assert done.returncode == 2
    assert "holds a sweep of another space" in done.stderr
