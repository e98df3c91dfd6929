"""Run a sweep with Ray Tune: parallel trials on this machine, or on all nodes of an allocation."""

import logging
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

# Ray reads these on import.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Trials are the main workload: run them at normal priority.
os.environ.setdefault("RAY_worker_niceness", "0")
if not os.environ.get("RAY_ADDRESS"):
    # Ray runs any pickle that it gets. A local Ray listens on 127.0.0.1 only, and asks other users for a token.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from polarcast.sweeps import population
from polarcast.sweeps.parameters import Point, encoded, grid, suggest
from polarcast.sweeps.population import MARK, POINT
from polarcast.sweeps.record import FAILED, RUNNING, STOPPED, Trial, key_of, read_trial, read_trials, write_trial
from polarcast.sweeps.space import Space
from polarcast.sweeps.study import NAME, discard_enqueued, open_study, points_of, sampler, storage, unfinished
from polarcast.sweeps.trial import TrialFailed, TrialRunner

_OBJECTIVE, _STEP = "objective", "step"
_HALVING = 3
_STORE_BYTES = 100 * 2**20
"""Size of Ray's object store, which holds only numbers here."""


class TuneTrial(tune.Trainable):
    """A trial driven by Ray Tune; one Tune step ends at the next validation."""

    def setup(self, config: dict[str, Any], sweep: str = "", space: Space | None = None) -> None:
        """Prepare the trial; training starts with the first step."""
        assert space is not None
        self._worst = math.inf if space.smaller_is_better else -math.inf
        self._take(TrialRunner(Path(sweep), space, point_of(space, config)))

    def _take(self, runner: TrialRunner) -> None:
        self._runner, self._reports = runner, runner.reports()

    def step(self) -> dict[str, Any]:
        """Train until the next validation. A failed trial reports the worst value and does not end the sweep."""
        trial = self._runner.trial
        try:
            report = next(self._reports, None)
            if report is None or report.step >= trial.steps:
                for _ in self._reports:
                    pass
                last = report or self._runner.trial.reports[-1]
                return {_OBJECTIVE: last.value, _STEP: last.step, "done": True}
        except TrialFailed:
            return {_OBJECTIVE: self._worst, _STEP: self._runner.trial.step, "done": True}
        return {_OBJECTIVE: report.value, _STEP: report.step}

    def cleanup(self) -> None:
        """Stop the runs of the trial."""
        self._reports.close()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save nothing: the runs write their own checkpoints."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing: the runs resume from their own checkpoints."""


class PopulationMember(TuneTrial):
    """A trial of a population: it may continue as a branch of another, or be paused until processors are free."""

    def setup(
        self, config: dict[str, Any], sweep: str = "", space: Space | None = None, starts: Sequence[Trial] = ()
    ) -> None:
        """Start or resume the member of this trial; Ray numbers its trials in the order of `starts`."""
        super().setup(config, sweep, space)
        assert space is not None
        start = starts[int(self.trial_id.rsplit("_", 1)[-1])]
        self._sweep, self._space, self._config, self._member = Path(sweep), space, config, start.member
        self._take(TrialRunner(self._sweep, space, start.point, start.member, start.parent))

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Return a reference to the run's own checkpoint."""
        return {"key": self._runner.trial.key, _STEP: self._runner.trial.step, MARK: self._config[MARK]}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Resume from the member's own checkpoint, or branch from another's with changed values."""
        assert checkpoint is not None
        key, step = checkpoint["key"], checkpoint[_STEP]
        if checkpoint[MARK] != self._config[MARK]:
            point = self._config[POINT]
            self._take(population.branch(self._sweep, self._space, point, self._member, key, step))
        elif own := read_trial(self._sweep / "trials" / key):
            self._take(TrialRunner(self._sweep, self._space, own.point, own.member, own.parent))


class TrialRecorder(tune.Callback):
    """Record how trials end, and report the progress of the sweep."""

    def __init__(self, folder: Path, space: Space, on_trials: Callable[[], None]) -> None:
        self._folder, self._space, self._on_trials = folder, space, on_trials

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Report progress after a validation."""
        self._on_trials()

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record a trial that did not reach its last step as stopped by the scheduler."""
        self._close(trial, STOPPED, "")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Record a failure outside the training itself, such as a dead Ray process."""
        self._close(trial, FAILED, "its Ray process died")

    def _close(self, trial: Any, state: str, reason: str) -> None:
        if self._space.is_population:  # members are never stopped early
            return
        folder = self._folder / "trials" / key_of(point_of(self._space, trial.config))
        if (known := read_trial(folder)) and known.state == RUNNING:
            write_trial(folder, replace(known, state=state, reason=reason))
        self._on_trials()


def point_of(space: Space, config: Mapping[str, Any]) -> Point:
    """Return the point of a Ray configuration: a grid point, or encoded values from the searcher."""
    if POINT in config:
        return dict(config[POINT])
    from polarcast.sweeps.study import FixedPoint

    fixed = FixedPoint(dict(config))
    return suggest(space.parameters, fixed)  # type: ignore[arg-type]


def run(folder: Path, space: Space, at_once: int, on_trials: Callable[[], None]) -> None:
    """Try all remaining points, starting with the unfinished ones.

    Args:
        folder: Sweep folder.
        space: Space to search.
        at_once: Number of parallel trials; 0 for as many as CPUs or GPUs allow.
        on_trials: Called after a trial record may have changed.
    """
    plan = _population(folder, space) if space.is_population else _search(folder, space)
    if not plan:
        return
    trainable, search, param_space, count = plan
    with _cluster(folder):
        tune.Tuner(
            tune.with_resources(trainable, _resources(space)),
            param_space=param_space,
            tune_config=tune.TuneConfig(
                metric=_OBJECTIVE, mode="min" if space.smaller_is_better else "max", search_alg=search,
                scheduler=_scheduler(space), num_samples=count, max_concurrent_trials=at_once or None,
            ),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(folder.resolve() / "ray"), verbose=0,
                callbacks=[TrialRecorder(folder, space, on_trials)],
            ),
        ).fit()  # fmt: skip


_Plan = tuple[type[tune.Trainable], OptunaSearch | None, dict[str, Any], int]
"""Trainable, searcher, parameter space of Ray, and number of samples."""


def _population(folder: Path, space: Space) -> _Plan | None:
    starts = population.members(folder, space)
    if not starts:
        return None
    first = {POINT: tune.grid_search([start.point for start in starts]), MARK: "start"}
    trainable = tune.with_parameters(PopulationMember, sweep=str(folder.resolve()), space=space, starts=starts)
    return trainable, None, first, 1


def _search(folder: Path, space: Space) -> _Plan | None:
    """Return the plan for a searcher or a grid; None if all points were tried."""
    # No other process runs this sweep. One that a killed sweep left behind ends soon, and its trial waits for it.
    started = unfinished(folder)
    ended = [trial for trial in read_trials(folder) if trial.state != RUNNING]
    left = max(0, points_of(space) - len(ended))
    if not left:
        return None
    trainable = tune.with_parameters(TuneTrial, sweep=str(folder.resolve()), space=space)
    if space.file.search == "grid":
        keys = {trial.key for trial in ended}
        points = [point for point in grid(space.parameters, space.file.grid) if key_of(point) not in keys]
        return trainable, None, {POINT: tune.grid_search(points)}, 1
    discard_enqueued(open_study(folder, space))
    searcher = OptunaSearch(
        space=partial(suggest_to_ray, space), metric=_OBJECTIVE, mode="min" if space.smaller_is_better else "max",
        study_name=NAME, storage=storage(folder), sampler=sampler(space, len(ended) + len(started)),
        points_to_evaluate=[encoded(space.parameters, trial.point) for trial in started] or None,
    )  # fmt: skip
    return trainable, searcher, {}, left


def suggest_to_ray(space: Space, trial: Any) -> None:
    """Define the space for Ray, which records the values suggested to the Optuna trial."""
    suggest(space.parameters, trial)


def _scheduler(space: Space) -> TrialScheduler:
    config = space.config({})
    rung = min(config.train.validate_every, config.train.steps)
    if space.is_population:
        explore = population.explorer(space)
        return PopulationBasedTraining(
            time_attr=_STEP, perturbation_interval=rung, custom_explore_fn=explore, log_config=False
        )
    if not space.file.early_stopping:
        return FIFOScheduler()
    return ASHAScheduler(time_attr=_STEP, max_t=config.train.steps + 1, grace_period=rung, reduction_factor=_HALVING)


def _resources(space: Space) -> dict[str, float]:
    import torch

    processes = space.file.processes * len(space.arms)
    # The two arms of a trial share its GPUs.
    return {"cpu": processes, "gpu": space.file.processes if torch.cuda.is_available() else 0}


@contextmanager
def _cluster(folder: Path) -> Iterator[None]:
    """Start Ray on this machine, or connect to the cluster at RAY_ADDRESS that spans an allocation."""
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()
        return
    # Paths of Unix sockets are limited to 107 bytes, so the folder must be short.
    place = tempfile.mkdtemp(prefix="polarcast-", dir="/tmp")
    try:
        ray.init(
            include_dashboard=False, object_store_memory=_STORE_BYTES, _temp_dir=place, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(place, ignore_errors=True)
