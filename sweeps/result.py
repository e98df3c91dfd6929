"""Sweep results, computed from the trial records alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from polarcast.data.errors import BadInput
from polarcast.data.files import write_json, write_private, write_text
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.stats.paired import DIFFERENCE, RATIO
from polarcast.hpc.utils.text import csv_text
from polarcast.sweeps.record import COMPLETE, FAILED, REPLACED, RUNNING, STOPPED, Trial, ranked, read_trials
from polarcast.sweeps.space import LOSS, Space

_DRAWS = 5000
_log = logging.getLogger("polarcast")


@dataclass(frozen=True)
class Paired:
    """Dual-pol compared with radar over all points completed on both arms.

    The points of a search are no random sample: the interval describes the spread over them, and events are not
    resampled.

    Attributes:
        difference: Mean effect on the objective: of errors that are compared as ratios, the geometric mean of
            dual-pol / radar, less 1; otherwise the mean of dual-pol − radar.
        low: Lower bound of its 95% bootstrap interval over points; None for fewer than three points.
        high: Upper bound of that interval.
        scale: ratio or difference.
        better: Fraction of the points where dual-pol is better.
        points: Number of points.
    """

    difference: float
    low: float | None
    high: float | None
    scale: str
    better: float
    points: int


@dataclass(frozen=True)
class Result:
    """All trials of a sweep, with their comparison.

    Attributes:
        space: The searched space.
        trials: Completed trials, best first; then stopped, replaced, failed and running ones.
        paired: Comparison of both arms; None for a sweep of one arm.
    """

    space: Space
    trials: list[Trial]
    paired: Paired | None

    @property
    def best(self) -> Trial | None:
        """Best completed trial; None if there is none."""
        return self.trials[0] if self.trials and self.trials[0].state == COMPLETE else None

    @property
    def hours(self) -> tuple[float, float]:
        """Process-hours used, and saved by early stopping."""
        return sum(t.seconds for t in self.trials) / 3600, sum(t.saved_seconds for t in self.trials) / 3600

    def count(self, state: str) -> int:
        """Return the number of trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    def as_record(self) -> dict[str, Any]:
        """Return the content of result.json."""
        spent, saved = self.hours
        return {
            "space": self.space.name,
            "objective": self.space.file.objective,
            "best": self.best and _as_row(self.best),
            "states": {state: self.count(state) for state in (COMPLETE, STOPPED, REPLACED, FAILED, RUNNING)},
            "process_hours": {"spent": round(spent, 4), "saved": round(saved, 4)},
            "paired": self.paired and vars(self.paired),
            "trials": [_as_row(trial) for trial in self.trials],
        }


def result_of(folder: Path, space: Space) -> Result:
    """Return the current result of a sweep folder."""
    trials = read_trials(folder)
    best_first = ranked(trials, space.smaller_is_better)
    order = (STOPPED, REPLACED, FAILED, RUNNING)
    rest = sorted((t for t in trials if t not in best_first), key=lambda t: (_place(t, order), -t.step))
    paired = compare(best_first, space.smaller_is_better, is_error(space.objective)) if len(space.arms) > 1 else None
    return Result(space, [*best_first, *rest], paired)


def is_error(objective: str) -> bool:
    """Return whether an objective is an error, which is compared as a ratio, as in tables."""
    return objective != LOSS and parse_score(objective).metric.scale == RATIO


def compare(trials: Sequence[Trial], smaller_is_better: bool, as_ratio: bool = False) -> Paired | None:
    """Compare the two arms over the given completed trials; None without trials."""
    both = [values for t in trials if {"radar", "dualpol"} <= (values := t.reports[-1].by_arm).keys()]
    pairs = np.array([[values[arm] for arm in ("radar", "dualpol")] for values in both])
    if not len(pairs):
        return None
    as_ratio = as_ratio and bool((pairs > 0).all())
    shown = np.expm1 if as_ratio else float
    pairs = np.log(pairs) if as_ratio else pairs
    differences = pairs[:, 1] - pairs[:, 0]
    gains = -differences if smaller_is_better else differences
    low = high = None
    if len(pairs) > 2:
        drawn = np.random.default_rng(0).choice(differences, (_DRAWS, len(pairs))).mean(1)
        low, high = (float(shown(v)) for v in np.quantile(drawn, [0.025, 0.975]))
    scale = RATIO if as_ratio else DIFFERENCE
    return Paired(float(shown(differences.mean())), low, high, scale, float((gains > 0).mean()), len(pairs))


def write_result(folder: Path, result: Result) -> None:
    """Write result.json, trials.csv and best.yaml, a configuration for `polarcast train`.

    If the configuration of the best trial is damaged, log a warning instead of writing best.yaml.
    """
    write_json(folder / "result.json", result.as_record())
    rows = [_as_row(trial) for trial in result.trials]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    write_text(folder / "trials.csv", csv_text(rows, keys))
    if best := result.best:
        try:
            config = RunFolder(folder / "trials" / best.key / result.space.arms[-1]).config()
        except BadInput as error:
            _log.warning("polarcast: best.yaml is not written: %s", error)
            return
        # Like the configuration of a run, it may hold secrets.
        write_private(folder / "best.yaml", OmegaConf.to_yaml(OmegaConf.create(config.to_dict())))


def _as_row(trial: Trial) -> dict[str, Any]:
    arms = trial.reports[-1].by_arm if trial.reports and len(trial.reports[-1].by_arm) > 1 else {}
    return {
        "trial": trial.key, "state": trial.state, "value": trial.value, **arms,
        "step": trial.step, "steps": trial.steps, "seconds": trial.seconds, **trial.point,
        **({"member": trial.member, "parent": trial.parent} if trial.member >= 0 else {}), "reason": trial.reason,
    }  # fmt: skip


def _place(trial: Trial, order: Sequence[str]) -> int:
    return order.index(trial.state) if trial.state in order else 0
