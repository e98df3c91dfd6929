"""Population based training: poor members continue from a copy of a good one, with changed hyperparameters.

Source: Jaderberg et al. (2017), arXiv:1711.09846. Ray Tune decides when to copy and from which member. A copy is a
portable checkpoint, so a branch is an ordinary run that starts at the step of its donor.
"""

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polarcast.data.errors import BadInput
from polarcast.hpc.runs import checkpoint
from polarcast.sweeps.parameters import Choice, Parameter, Point, Range, suggest
from polarcast.sweeps.record import REPLACED, RUNNING, Trial, read_trials, write_trial
from polarcast.sweeps.trial import TrialRunner

if TYPE_CHECKING:
    from polarcast.sweeps.space import Space

POINT, MARK = "point", "mark"
"""Keys of a member's configuration in Ray: its point, and a marker that changes with the point."""
_RESAMPLED = 0.25
_FACTOR = 1.2
_SECONDS_TO_SAVE = 120


def explore(parameters: Sequence[Parameter], point: Mapping[str, Any], draw: random.Random) -> Point:
    """Perturb a point; each value is resampled with probability 1/4, otherwise replaced by a neighbor.

    Numbers are multiplied or divided by 1.2. In a linear range with a lower bound of 0 or less they move by 20% of the
    range. A choice moves to an adjacent value in the order of the space.
    """
    near = {p.key: _near(p, point[p.key], draw) for p in parameters if p.key in point}
    # A condition may hold now that did not hold for `point`.
    missing = {p.key: _anywhere(p, draw) for p in parameters if p.key not in near}
    changed: Point = {}
    for parameter in parameters:
        if parameter.is_chosen(changed):
            changed[parameter.key] = (near | missing)[parameter.key]
    return changed


def explorer(space: "Space") -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the explore function that Ray calls with the configuration of a good member."""
    draw, marks = random.Random(space.file.seed), itertools.count(1)

    def changed(config: dict[str, Any]) -> dict[str, Any]:
        return {POINT: explore(space.parameters, config[POINT], draw), MARK: f"{time.time_ns()}-{next(marks)}"}

    return changed


def members(folder: Path, space: "Space") -> list[Trial]:
    """Return the unfinished members: started ones as recorded, new ones sampled from the space by its seed."""
    by_member: dict[int, Trial] = {}
    for trial in read_trials(folder):
        # If the sweep was killed during a replacement, the branch comes later and overrides the replaced trial.
        if trial.member >= 0 and trial.state != REPLACED:
            by_member[trial.member] = trial
    started = _first(space)
    wanted = [by_member.get(i) or Trial("", p, 0, 0.0, member=i) for i, p in enumerate(started)]
    return [trial for trial in wanted if trial.state == RUNNING]


def branch(folder: Path, space: "Space", point: Point, member: int, donor: str, step: int) -> TrialRunner:
    """Create a trial that starts from a checkpoint of another; record the member's previous trial as replaced.

    Raises:
        BadInput: the donor has no such checkpoint.
    """
    runner = TrialRunner(folder, space, point, member, f"{donor}@{step}")
    for arm, target in runner.checkpoints.items():
        if checkpoint.newest(target) is None:
            state, progress = checkpoint.load(_saved(folder / "trials" / donor / arm / "checkpoints", step))
            # The donor's best weights are not copied, so its best score does not apply.
            checkpoint.save(target, state, replace(progress, best_step=-1, best_score=float("inf")), keep=1)
    write_trial(runner.folder, runner.trial)
    for trial in read_trials(folder):
        if trial.member == member and trial.state == RUNNING and trial.key != runner.trial.key:
            replaced = replace(trial, state=REPLACED, reason=f"continued as {runner.trial.key}, from {donor}")
            write_trial(folder / "trials" / trial.key, replaced)
    return runner


def _first(space: "Space") -> list[Point]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=space.file.seed))
    return [suggest(space.parameters, study.ask()) for _ in range(space.file.trials)]


def _saved(checkpoints: Path, step: int) -> Path:
    """Wait for a checkpoint: it is written in the background and may complete after its validation is logged."""
    path, deadline = checkpoints / checkpoint.name_of(step), time.monotonic() + _SECONDS_TO_SAVE
    while checkpoint.problem_of(path):
        if time.monotonic() > deadline:
            raise BadInput("no complete checkpoint to continue from", path, "see output.txt of that run")
        time.sleep(0.1)
    return path


def _near(parameter: Parameter, value: Any, draw: random.Random) -> Any:
    if draw.random() < _RESAMPLED:
        return _anywhere(parameter, draw)
    if isinstance(parameter, Choice):
        place = parameter.values.index(value) + draw.choice((-1, 1))
        return parameter.values[min(max(place, 0), len(parameter.values) - 1)]
    assert isinstance(parameter, Range)
    up = draw.choice((True, False))
    moved = value * (_FACTOR if up else 1 / _FACTOR)
    if not parameter.log and parameter.low <= 0:
        moved = value + (parameter.high - parameter.low) * (_FACTOR - 1) * (1 if up else -1)
    if parameter.is_integer:
        moved = round(moved) if round(moved) != value else value + (1 if up else -1)
    return min(max(moved, parameter.low), parameter.high)


def _anywhere(parameter: Parameter, draw: random.Random) -> Any:
    if isinstance(parameter, Choice):
        return draw.choice(parameter.values)
    assert isinstance(parameter, Range)
    if parameter.is_integer:
        return draw.randint(int(parameter.low), int(parameter.high))
    if parameter.log:
        return parameter.low * (parameter.high / parameter.low) ** draw.random()
    return draw.uniform(parameter.low, parameter.high)
