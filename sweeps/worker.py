"""A sweep by independent workers, such as the elements of a job array: they share the sweep's folder, no more."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from polarcast.sweeps.parameters import encoded, suggest
from polarcast.sweeps.record import read_trials
from polarcast.sweeps.space import Space
from polarcast.sweeps.study import asking, open_study, points_of, unfinished
from polarcast.sweeps.trial import TrialAtWork, TrialFailed

if TYPE_CHECKING:
    import optuna

_ASKED_PER_POINT = 3
"""A searcher may suggest what was tried before; a space may have fewer points than are wanted."""


def work(folder: Path, space: Space, on_trials: Callable[[], None]) -> None:
    """Try points, one after the other, until all are tried or at work elsewhere.

    Args:
        folder: Of the sweep, shared by all workers.
        space: What is sought.
        on_trials: Called whenever something was written of a trial.
    """
    study = open_study(folder, space)
    while taken := _take(study, folder, space):
        _try(study, *taken, on_trials)


def _take(study: "optuna.Study", folder: Path, space: Space) -> "tuple[optuna.Trial, TrialAtWork] | None":
    """A point whose worker is gone, or the next one, which is from now on this worker's; None when there are enough."""
    with asking(folder):
        if begun := unfinished(folder):
            study.enqueue_trial(encoded(space.parameters, begun[0]))
        elif len(read_trials(folder)) >= (wanted := points_of(space)) or len(study.trials) >= _ASKED_PER_POINT * wanted:
            return None
        trial = study.ask()
        at_work = TrialAtWork(folder, space, suggest(space.parameters, trial))
        at_work.claim()
        return trial, at_work


def _try(study: "optuna.Study", trial: "optuna.Trial", at_work: TrialAtWork, on_trials: Callable[[], None]) -> None:
    from optuna.trial import TrialState

    with closing(at_work.reports()) as reports:
        try:
            for report in reports:
                on_trials()
                trial.report(report.value, report.step)
                if report.step < at_work.trial.steps and trial.should_prune():
                    at_work.stop_early()
                    study.tell(trial, state=TrialState.PRUNED)
                    return
        except TrialFailed:
            study.tell(trial, state=TrialState.FAIL)
            return
    study.tell(trial, at_work.trial.value)
    on_trials()
