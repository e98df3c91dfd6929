"""Run a sweep with independent workers, such as the elements of a job array, that share only the sweep folder."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from polarcast.sweeps.parameters import encoded, suggest
from polarcast.sweeps.record import read_trials
from polarcast.sweeps.space import Space
from polarcast.sweeps.study import abandoned, open_study, points_of, sweep_lock
from polarcast.sweeps.trial import TrialFailed, TrialRunner

if TYPE_CHECKING:
    import optuna

_SUGGESTIONS_PER_POINT = 3
"""Limit of suggestions: a searcher may repeat points, and a space may have fewer points than requested."""


def work(folder: Path, space: Space, on_trials: Callable[[], None]) -> None:
    """Try points one after the other, until all are tried or taken by other workers.

    Args:
        folder: Sweep folder, shared by all workers.
        space: Space to search.
        on_trials: Called after a trial record may have changed.
    """
    study = open_study(folder, space)
    while taken := _take(study, folder, space):
        _try(study, *taken, on_trials)


def _take(study: "optuna.Study", folder: Path, space: Space) -> "tuple[optuna.Trial, TrialRunner] | None":
    """Claim an abandoned point or a new one for this worker; None if no more are needed."""
    with sweep_lock(folder):
        if left := abandoned(folder):
            study.enqueue_trial(encoded(space.parameters, left[0].point))
        elif (
            len(read_trials(folder)) >= (wanted := points_of(space))
            or len(study.trials) >= _SUGGESTIONS_PER_POINT * wanted
        ):
            return None
        trial = study.ask()
        runner = TrialRunner(folder, space, suggest(space.parameters, trial))
        runner.claim()
        return trial, runner


def _try(study: "optuna.Study", trial: "optuna.Trial", runner: TrialRunner, on_trials: Callable[[], None]) -> None:
    from optuna.trial import TrialState

    with closing(runner.reports()) as reports:
        try:
            for report in reports:
                on_trials()
                trial.report(report.value, report.step)
                if report.step < runner.trial.steps and trial.should_prune():
                    runner.stop_early()
                    study.tell(trial, state=TrialState.PRUNED)
                    return
        except TrialFailed:
            study.tell(trial, state=TrialState.FAIL)
            return
    study.tell(trial, runner.trial.value)
    on_trials()
