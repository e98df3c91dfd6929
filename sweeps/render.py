"""Sweep results as a table and three figures."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polarcast.data.files import write_bytes
from polarcast.hpc.scores.wording import effect
from polarcast.hpc.utils.text import printable
from polarcast.sweeps.record import COMPLETE, FAILED, REPLACED, STOPPED, Trial
from polarcast.sweeps.result import Result
from polarcast.sweeps.study import add_completed

_SHOWN = 20


def table(result: Result) -> Any:
    """Return a rich table of the top trials, best first."""
    from rich.markup import escape
    from rich.table import Table

    space = result.space
    counts = ", ".join(
        f"{result.count(state)} {state}" for state in (COMPLETE, STOPPED, REPLACED, FAILED) if result.count(state)
    )
    shown = Table(title=escape(printable(f"{space.name}: {space.file.objective} ({counts})")))
    arms = space.arms if len(space.arms) > 1 else ()
    for name in ("trial", space.objective, *arms, "step"):
        shown.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
    for parameter in space.parameters:
        shown.add_column(escape(parameter.key.split(".", 1)[-1]), justify="right")
    shown.add_column("")
    for trial in result.trials[:_SHOWN]:
        shown.add_row(*(escape(printable(cell)) for cell in _row(trial, result, arms)))
    return shown


def paired_line(result: Result) -> str:
    """Return one sentence that compares both arms; empty for a sweep of one arm."""
    if not (paired := result.paired):
        return ""
    low, high = paired.low, paired.high
    limits = "" if low is None or high is None else f" [{effect(low, paired.scale)}, {effect(high, paired.scale)}]"
    return (
        f"dual-pol vs radar over {paired.points} points completed on both arms: {result.space.objective} "
        f"{effect(paired.difference, paired.scale)}{limits}; dual-pol is better at {paired.better:.0%} of them"
    )


def _row(trial: Trial, result: Result, arms: tuple[str, ...]) -> list[str]:
    by_arm = trial.reports[-1].by_arm if trial.reports else {}
    values = [_number(trial.value), *(_number(by_arm.get(arm)) for arm in arms)]
    point = [short(trial.point.get(parameter.key)) for parameter in result.space.parameters]
    return [
        trial.key,
        *values,
        str(trial.step),
        *point,
        remark_of(trial),
    ]


def remark_of(trial: Trial) -> str:
    """Return why a trial failed, which one it continues, or its state if it is not complete."""
    if trial.reason:
        return trial.reason
    origin = f"from {trial.parent}" if trial.parent else ""
    return origin if trial.state == COMPLETE else trial.state


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def short(value: Any) -> str:
    """Return the value of a parameter as text, numbers with three digits."""
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def figures(folder: Path, result: Result) -> None:
    """Save history, parallel coordinates and importance as PNG files; skip those that need more trials."""
    import matplotlib as mpl

    mpl.use("Agg")
    study = as_study(result)
    done = len(study.trials)
    for name, least, draw in _FIGURES:
        if done >= least:
            _save(folder / "figures" / f"{name}.png", draw, study, result.space.objective)


def as_study(result: Result) -> Any:
    """Return the completed trials as an Optuna study."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = result.space
    study = optuna.create_study(direction="minimize" if space.smaller_is_better else "maximize")
    add_completed(study, space, sorted(result.trials, key=lambda trial: trial.created))
    return study


def _history(study: Any, objective: str) -> Any:
    from optuna.visualization.matplotlib import plot_optimization_history

    return plot_optimization_history(study, target_name=objective)


def _parallel(study: Any, objective: str) -> Any:
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    return plot_parallel_coordinate(study, target_name=objective)


def _importance(study: Any, objective: str) -> Any:
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization.matplotlib import plot_param_importances

    return plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target_name=objective)


_FIGURES: tuple[tuple[str, int, Callable[[Any, str], Any]], ...] = (
    ("history", 1, _history),
    ("parallel_coordinates", 2, _parallel),
    ("importance", 4, _importance),
)
"""Name, minimum number of trials, and drawing function of each figure."""
CAPTIONS = {
    "history": "Objective of each trial in the order in which they began, and the best so far",
    "parallel_coordinates": "Parameters and objective of each trial, one line a trial",
    "importance": "Importance of each parameter for the objective (PED-ANOVA)",
}
"""Captions of the figures."""


def _save(path: Path, draw: Callable[[Any, str], Any], study: Any, objective: str) -> None:
    import warnings

    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        # Optuna warns each time that its figures are experimental.
        warnings.simplefilter("ignore")
        axes = draw(study, objective)
    figure = axes.figure
    figure.set_size_inches(9, 5)
    content = io.BytesIO()
    figure.savefig(content, dpi=150, bbox_inches="tight", format="png")
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
