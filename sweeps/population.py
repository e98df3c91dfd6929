"""Population based training: members that do badly go on from a copy of one that does well, with other values.

Source: Jaderberg et al. (2017), arXiv:1711.09846. Ray Tune decides when and from whom; what is copied is a portable
checkpoint, so that a branch is an ordinary run that begins where another was.
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
from polarcast.sweeps.trial import TrialAtWork

if TYPE_CHECKING:
    from polarcast.sweeps.space import Space

POINT, MARK = "point", "mark"
"""What Ray knows of a member: its values, and a number that is new with each change of them."""
_RESAMPLED = 0.25
_FACTOR = 1.2
_SECONDS_TO_SAVE = 120


def explore(parameters: Sequence[Parameter], point: Mapping[str, Any], draw: random.Random) -> Point:
    """Values near those of a point; of each, once in four times any at all.

    Numbers go up or down by a fifth of themselves, or of their range when it is linear and holds zero; of choices, one
    beside it in the order of the space.
    """
    near = {p.key: _near(p, point[p.key], draw) for p in parameters if p.key in point}
    # A condition may hold now that did not.
    missing = {p.key: _anywhere(p, draw) for p in parameters if p.key not in near}
    found: Point = {}
    for parameter in parameters:
        if parameter.is_chosen(found):
            found[parameter.key] = (near | missing)[parameter.key]
    return found


def explorer(space: "Space") -> Callable[[dict[str, Any]], dict[str, Any]]:
    """As Ray calls it: another configuration from one that does well."""
    draw, marks = random.Random(space.file.seed), itertools.count(1)

    def changed(config: dict[str, Any]) -> dict[str, Any]:
        return {POINT: explore(space.parameters, config[POINT], draw), MARK: f"{time.time_ns()}-{next(marks)}"}

    return changed


def members(folder: Path, space: "Space") -> list[Trial]:
    """Who is still to be trained: those begun as they are, the others from the space, the same for a seed."""
    by_member: dict[int, Trial] = {}
    for trial in read_trials(folder):
        # One that was being replaced when all was killed is older than its branch.
        if trial.member >= 0 and trial.state != REPLACED:
            by_member[trial.member] = trial
    started = _first(space)
    wanted = [by_member.get(i) or Trial("", p, 0, 0.0, member=i) for i, p in enumerate(started)]
    return [trial for trial in wanted if trial.state == RUNNING]


def branch(folder: Path, space: "Space", point: Point, member: int, donor: str, step: int) -> TrialAtWork:
    """A trial that begins with another's checkpoint; what the member was before is written down as replaced.

    Raises:
        BadInput: there is no such checkpoint.
    """
    work = TrialAtWork(folder, space, point, member, f"{donor}@{step}")
    for arm, target in work.checkpoints.items():
        if checkpoint.newest(target) is None:
            state, progress = checkpoint.load(_saved(folder / "trials" / donor / arm / "checkpoints", step))
            # The donor's best weights stay with it.
            checkpoint.save(target, state, replace(progress, best_step=-1, best_score=float("inf")), keep=1)
    write_trial(work.folder, work.trial)
    for trial in read_trials(folder):
        if trial.member == member and trial.state == RUNNING and trial.key != work.trial.key:
            told = replace(trial, state=REPLACED, reason=f"goes on as {work.trial.key}, from {donor}")
            write_trial(folder / "trials" / trial.key, told)
    return work


def _first(space: "Space") -> list[Point]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=space.file.seed))
    return [suggest(space.parameters, study.ask()) for _ in range(space.file.trials)]


def _saved(checkpoints: Path, step: int) -> Path:
    """A checkpoint is written while training goes on: it may be a moment younger than its validation."""
    path, deadline = checkpoints / checkpoint.name_of(step), time.monotonic() + _SECONDS_TO_SAVE
    while checkpoint.problem_of(path):
        if time.monotonic() > deadline:
            raise BadInput("no whole checkpoint to go on from", path, "see output.txt of that run")
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
