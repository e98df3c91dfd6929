"""Resumed sweeps wait for what a killed one left behind: Ray processes, trainings that save, enqueued points."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from polarcast.data.files import sole_writer
from polarcast.data.shards.manifest import Manifest
from polarcast.sweeps.record import COMPLETE, Trial, key_of, read_trial, write_trial
from polarcast.sweeps.space import Space, load_space
from polarcast.sweeps.trial import TrialRunner

SPACE = """
preset: demo
set:
  arm: radar
  match_params: false
  train: {{steps: 4, validate_every: 2, global_batch: 4, warmup_steps: 2, log_every: 1, threads: 1}}
  data: {{shards: {shards}}}
objective: validation/rmse
search: random
trials: 3
early_stopping: false
parameters:
  model.widths: {{choice: [[4, 8], [6, 8]]}}
  train.learning_rate: {{log_uniform: [1.0e-3, 1.0e-2]}}
"""
POINTS = [{"model.widths": [6, 8], "train.learning_rate": rate} for rate in (0.002, 0.003)]


@pytest.fixture
def space(shards: Manifest, tmp_path: Path) -> Space:
    (tmp_path / "small.yaml").write_text(SPACE.format(shards=shards.folder), encoding="utf-8")
    return load_space(str(tmp_path / "small.yaml"))


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Folder of a sweep that was killed while it trained two points."""
    for created, point in enumerate(POINTS):
        key = key_of(point)
        write_trial(tmp_path / "killed" / "trials" / key, Trial(key, point, steps=4, created=created))
    return tmp_path / "killed"


def points(folder: Path, space: Space) -> list[object]:
    """Return the points that a resumed sweep tries."""
    from polarcast.sweeps.tune import _search, point_of

    plan = _search(folder, space)
    assert plan is not None
    _, searcher, _, count = plan
    assert searcher is not None
    assert count == 3
    return [point_of(space, searcher.suggest(name) or {}) for name in ("first", "second", "third")]


@pytest.mark.parametrize("held", [0, 1, 2])
def test_unfinished_trials_come_first_though_processes_hold_them(held: int, killed: Path, space: Space) -> None:
    with ExitStack() as processes:
        for point in POINTS[:held]:
            processes.enter_context(sole_writer(killed / "trials" / key_of(point)))
        assert points(killed, space)[:2] == POINTS


def test_points_enqueued_before_a_kill_are_not_tried_twice(killed: Path, space: Space) -> None:
    from polarcast.sweeps.tune import _search

    for _ in range(2):  # killed before Ray took the first point
        _search(killed, space)
    *unfinished, fresh = points(killed, space)
    assert unfinished == POINTS
    assert fresh not in POINTS


def test_trial_starts_when_the_training_before_it_has_saved(killed: Path, space: Space) -> None:
    runner = TrialRunner(killed, space, POINTS[0])
    run = runner.folder / "radar"
    runner.claim()
    steps: list[int] = []
    trial = threading.Thread(target=lambda: steps.extend(report.step for report in runner.reports()))
    with sole_writer(run):
        (run / "saving").touch()
        trial.start()
        time.sleep(0.5)
        assert not (run / "output.txt").exists()
    trial.join()
    assert steps == [2, 4]
    assert read_trial(runner.folder).state == COMPLETE  # type: ignore[union-attr]
