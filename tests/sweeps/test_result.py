"""Sweep results from trial records."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.runs.folder import RunFolder
from polarcast.sweeps.record import (
    COMPLETE,
    FAILED,
    RUNNING,
    STOPPED,
    Trial,
    TrialReport,
    key_of,
    read_trials,
    write_trial,
)  # fmt: skip
from polarcast.sweeps.render import figures, paired_line, table
from polarcast.sweeps.result import compare, result_of, write_result
from polarcast.sweeps.space import Space, load_space

ARMS = ("radar", "dualpol")


@pytest.fixture
def space(tmp_path: Path) -> Space:
    text = "objective: validation/rmse\nparameters: {train.learning_rate: {log_uniform: [1.0e-4, 1.0e-1]}}"
    (tmp_path / "mine.yaml").write_text(text)
    return load_space(str(tmp_path / "mine.yaml"), paired=True)


def trial(number: int, values: list[tuple[float, float]], state: str = COMPLETE, steps: int = 90) -> Trial:
    point = {"train.learning_rate": 1e-3 * (1 + number)}
    reports = [TrialReport(30 * (1 + i), sum(v) / 2, dict(zip(ARMS, v, strict=True))) for i, v in enumerate(values)]
    return Trial(key_of(point), point, steps, float(number), state, "out of memory" * (state == FAILED), reports, 60.0)


def write_trials(folder: Path, trials: list[Trial]) -> Path:
    for each in trials:
        write_trial(folder / "trials" / each.key, each)
    return folder


MANY = [
    trial(0, [(3.0, 2.5), (2.0, 1.5), (1.6, 1.0)]),
    trial(1, [(3.0, 2.5), (2.0, 1.5), (1.4, 1.0)]),
    trial(2, [(4.0, 3.9)], STOPPED),
    trial(3, [], FAILED),
    trial(4, [(3.0, 2.0)], RUNNING),
    trial(5, [(3.0, 2.5), (2.0, 1.5), (2.0, 2.2)]),
    trial(6, [(3.0, 2.5), (2.0, 1.5), (1.8, 1.2)]),
]


def test_trial_records_round_trip(tmp_path: Path) -> None:
    assert read_trials(write_trials(tmp_path, MANY)) == MANY


def test_trials_are_ranked_and_saved_hours_counted(space: Space, tmp_path: Path) -> None:
    result = result_of(write_trials(tmp_path, MANY), space)
    assert [t.value for t in result.trials[:4]] == pytest.approx([1.2, 1.3, 1.5, 2.1])
    assert [t.state for t in result.trials[4:]] == [STOPPED, FAILED, RUNNING]
    spent, saved = result.hours
    assert spent == pytest.approx(7 * 60 / 3600)
    assert saved == pytest.approx(2 * 60 / 3600)


def test_arms_are_compared_pairwise(space: Space, tmp_path: Path) -> None:
    paired = result_of(write_trials(tmp_path, MANY), space).paired
    assert paired is not None
    ratios = np.array([1.0 / 1.6, 1.0 / 1.4, 2.2 / 2.0, 1.2 / 1.8])
    assert (paired.scale, paired.difference) == ("ratio", pytest.approx(np.exp(np.log(ratios).mean()) - 1))
    assert (paired.better, paired.points) == (0.75, 4)
    assert paired.low is not None
    assert paired.high is not None
    assert ratios.min() - 1 - 1e-9 <= paired.low < paired.difference < paired.high <= ratios.max() - 1 + 1e-9
    worse = compare(MANY[:2], smaller_is_better=False)
    assert worse is not None
    assert (worse.better, worse.low) == (0.0, None)
    assert (worse.scale, worse.difference) == ("difference", pytest.approx(np.mean([-0.6, -0.4])))


def test_result_files_and_figures_are_written(space: Space, tmp_path: Path) -> None:
    folder = write_trials(tmp_path, MANY)
    result = result_of(folder, space)
    best = result.trials[0]
    config = space.config(best.point, "dualpol")
    RunFolder(folder / "trials" / best.key / "dualpol").start(config)
    write_result(folder, result)
    assert digest(load_config(folder / "best.yaml")) == digest(config)
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert [row["trial"] for row in rows] == [t.key for t in result.trials]
    assert float(rows[0]["dualpol"]) == 1.0
    record = json.loads((folder / "result.json").read_text())
    assert record["states"] == {"complete": 4, "stopped": 1, "replaced": 0, "failed": 1, "running": 1}
    assert record["best"]["trial"] == best.key
    figures(folder, result)
    assert {path.stem for path in (folder / "figures").iterdir()} == {"history", "parallel_coordinates", "importance"}
    assert table(result).row_count == len(MANY)
    assert "dual-pol vs radar over 4 points completed on both arms: rmse −24% [" in paired_line(result)
    assert "better at 75% of them" in paired_line(result)
    assert OmegaConf.load(folder / "best.yaml").train.learning_rate == best.point["train.learning_rate"]


def test_sweep_without_trials_has_an_empty_result(space: Space, tmp_path: Path) -> None:
    result = result_of(tmp_path, space)
    write_result(tmp_path, result)
    figures(tmp_path, result)
    assert result.best is None
    assert table(result).row_count == 0
