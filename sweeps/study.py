"""The Optuna study of a sweep, stored in one file that any number of workers may share."""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polarcast.data.errors import BadInput
from polarcast.data.files import has_writer
from polarcast.sweeps.parameters import encoded, grid
from polarcast.sweeps.record import COMPLETE, RUNNING, Trial, read_trials
from polarcast.sweeps.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study

NAME = "sweep"
_FILE = "study.log"
_LOCK, _RUNNING = ".asking", ".running"
_log = logging.getLogger("polarcast")


def storage(folder: Path) -> "BaseStorage":
    """Return the journal storage; it is appended to under a lock, so a kill keeps earlier results."""
    import optuna
    from optuna.storages import JournalStorage

    from polarcast.sweeps.journal import TolerantJournal

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return JournalStorage(TolerantJournal(folder / _FILE))


def mend_study(folder: Path, space: Space) -> None:
    """Replace a study that is damaged beyond single lines by one with the completed trials; log a warning."""
    if not os.path.lexists(path := folder / _FILE):
        return
    try:
        storage(folder)
    except Exception as error:  # Optuna raises whatever the content of an operation leads to
        _log.warning("polarcast: %s is damaged (%s); it is made again from the trials", path, type(error).__name__)
        os.replace(path, path.with_name(f"{_FILE}.damaged"))
        add_completed(_study(storage(folder), space, 0), space, read_trials(folder))


def add_completed(study: "Study", space: Space, trials: Sequence[Trial]) -> None:
    """Add completed trials to a study; skip points that are not of this space."""
    from optuna.trial import create_trial

    for trial in trials:
        if trial.state == COMPLETE and trial.value is not None:
            chosen = [parameter for parameter in space.parameters if parameter.key in trial.point]
            with suppress(ValueError):
                params = encoded(space.parameters, trial.point)
                distributions = {parameter.key: parameter.as_distribution() for parameter in chosen}
                study.add_trial(create_trial(params=params, distributions=distributions, value=trial.value))


def sampler(space: Space, tried: int) -> "BaseSampler":
    """Return the sampler; `tried` changes its seed, so that a resumed sweep does not repeat points."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = space.file.seed * 100_003 + tried
    return TPESampler(seed=seed, constant_liar=True) if space.file.search == "optuna" else RandomSampler(seed=seed)


def open_study(folder: Path, space: Space) -> "Study":
    """Open or create the study of a sweep; a new grid study gets all its points enqueued."""
    import optuna

    kept = storage(folder)
    with sweep_lock(folder):
        names = [summary.study_name for summary in optuna.get_all_study_summaries(kept)]
        study = _study(kept, space, len(read_trials(folder)))
        if NAME not in names and space.file.search == "grid":
            for point in grid(space.parameters, space.file.grid):
                study.enqueue_trial(encoded(space.parameters, point))
    return study


def _study(kept: "BaseStorage", space: Space, tried: int) -> "Study":
    import optuna

    direction: Literal["minimize", "maximize"] = "minimize" if space.smaller_is_better else "maximize"
    pruner = optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3) if space.file.early_stopping else None
    return optuna.create_study(
        storage=kept, study_name=NAME, load_if_exists=True, direction=direction,
        pruner=pruner or optuna.pruners.NopPruner(), sampler=sampler(space, tried),
    )  # fmt: skip


def points_of(space: Space) -> int:
    """Return the number of points that a sweep tries."""
    return len(grid(space.parameters, space.file.grid)) if space.file.search == "grid" else space.file.trials


def discard_enqueued(study: "Study") -> None:
    """End the enqueued trials that a killed sweep left in its study, which come before all others."""
    from optuna.trial import TrialState

    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)


def unfinished(folder: Path) -> list[Trial]:
    """Return the trials that were started and have not ended, whether or not a process trains them."""
    return [trial for trial in read_trials(folder) if trial.state == RUNNING]


def abandoned(folder: Path) -> list[Trial]:
    """Return the unfinished trials that no worker is training."""
    return [trial for trial in unfinished(folder) if not has_writer(folder / "trials" / trial.key)]


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
def running(folder: Path, is_worker: bool) -> Iterator[None]:
    """Hold a sweep folder while running it: independent workers share it, any other process has it alone.

    Raises:
        BadInput: another process runs the sweep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / _RUNNING, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if is_worker else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait for it, stop it first, or run all as workers with --worker"
            raise BadInput("another process runs this sweep", folder, fix) from None
        yield
    finally:
        os.close(handle)


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the sweep folder: one worker at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
