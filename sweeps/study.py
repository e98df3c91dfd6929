"""The Optuna study of a sweep, stored in one file that any number of workers may share."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polarcast.data.errors import BadInput
from polarcast.data.files import sole_writer
from polarcast.sweeps.parameters import Point, encoded, grid
from polarcast.sweeps.record import RUNNING, read_trials
from polarcast.sweeps.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study

NAME = "sweep"
_FILE = "study.log"
_LOCK = ".asking"


def storage(folder: Path) -> "BaseStorage":
    """Return the journal storage; it is appended to under a lock, so a kill keeps earlier results."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return JournalStorage(JournalFileBackend(str(folder / _FILE)))


def sampler(space: Space, tried: int) -> "BaseSampler":
    """Return the sampler; `tried` changes its seed, so that a resumed sweep does not repeat points."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = space.file.seed * 100_003 + tried
    return TPESampler(seed=seed, constant_liar=True) if space.file.search == "optuna" else RandomSampler(seed=seed)


def open_study(folder: Path, space: Space) -> "Study":
    """Open or create the study of a sweep; a new grid study gets all its points enqueued."""
    import optuna

    kept = storage(folder)
    direction: Literal["minimize", "maximize"] = "minimize" if space.smaller_is_better else "maximize"
    pruner = optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3) if space.file.early_stopping else None
    with sweep_lock(folder):
        names = [summary.study_name for summary in optuna.get_all_study_summaries(kept)]
        study = optuna.create_study(
            storage=kept, study_name=NAME, load_if_exists=True, direction=direction,
            pruner=pruner or optuna.pruners.NopPruner(), sampler=sampler(space, len(read_trials(folder))),
        )  # fmt: skip
        if NAME not in names and space.file.search == "grid":
            for point in grid(space.parameters, space.file.grid):
                study.enqueue_trial(encoded(space.parameters, point))
    return study


def points_of(space: Space) -> int:
    """Return the number of points that a sweep tries."""
    return len(grid(space.parameters, space.file.grid)) if space.file.search == "grid" else space.file.trials


def unfinished(folder: Path) -> list[Point]:
    """Return the points that were started but that no worker is training."""
    running = [trial for trial in read_trials(folder) if trial.state == RUNNING]
    return [trial.point for trial in running if _is_free(folder / "trials" / trial.key)]


class FixedPoint:
    """A stand-in for an Optuna trial, with given values."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def suggest_categorical(self, name: str, choices: list[str]) -> object:
        """Return the given value."""
        return self._values[name]

    def suggest_int(self, name: str, low: int, high: int, log: bool = False) -> object:
        """Return the given value."""
        return self._values[name]

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> object:
        """Return the given value."""
        return self._values[name]


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the sweep folder: one worker at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_free(folder: Path) -> bool:
    try:
        with sole_writer(folder):
            return True
    except BadInput:
        return False
