"""Pairs of runs that a table compares: its arms with each other, and each arm with the reference of `versus`."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from polarcast.hpc.bench.suite import Suite, TableSpec, versus_of
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.paired import DIFFERENCE as PLAIN
from polarcast.hpc.scores.stats.paired import GAIN, RATIO

DIFFERENCE = "difference"
"""Comparison of the dual-pol arm with the radar arm."""
VERSUS = "_vs"
"""End of the name of a comparison with the reference of a table."""
OF_ARMS = {
    DIFFERENCE: ("radar", "dualpol"),
    "placebo_vs_radar": ("radar", "placebo"),
    "dualpol_vs_placebo": ("placebo", "dualpol"),
}
"""First and second arm of each comparison of two arms."""
ARM_NAMES = {
    "radar": "radar",
    "dualpol": "dual-pol",
    "placebo": "placebo",
    DIFFERENCE: "dual-pol vs radar",
    "placebo_vs_radar": "placebo vs radar",
    "dualpol_vs_placebo": "dual-pol vs placebo",
}
"""Names of arms and comparisons in tables, in the order of their columns; see `arm_name` for those with a reference."""

Run = tuple[str, str]
"""Model and arm, whose seeds are runs of equal configuration."""


@dataclass(frozen=True)
class Contrast:
    """A paired comparison.

    Attributes:
        arm: Its name in the column `arm` of records, such as difference or radar_vs.
        first: Reference, model and arm.
        second: What is compared with it.
    """

    arm: str
    first: Run
    second: Run


def runs_of(suite: Suite, spec: TableSpec, model: str) -> dict[str, Run]:
    """Return the runs that a table shows for a model, by arm."""
    chosen = spec.arms or suite.arms
    return {arm: (source, arm) for arm, source in suite.model_by_arm(model).items() if arm in chosen}


def contrasts_of(suite: Suite, spec: TableSpec, model: str) -> list[Contrast]:
    """Return the comparisons that a table shows for a model; none of the reference with itself."""
    runs = runs_of(suite, spec, model)
    found = [Contrast(name, runs[a], runs[b]) for name, (a, b) in OF_ARMS.items() if {a, b} <= runs.keys()]
    for arm, run in runs.items():
        if (reference := reference_of(suite, spec, arm)) and reference != run:
            found.append(Contrast(arm + VERSUS, reference, run))
    return found


def reference_of(suite: Suite, spec: TableSpec, arm: str) -> Run | None:
    """Return the run that `versus` compares an arm with, None without `versus`.

    It is of the arm that `versus` names, else of the same arm, else of the first that the reference has.
    """
    if (versus := versus_of(spec)) is None:
        return None
    runs = suite.model_by_arm(versus.model)
    chosen = versus.arm or (arm if arm in runs else next(iter(runs)))
    return runs[chosen], chosen


def reference_label(suite: Suite, spec: TableSpec) -> str:
    """Return the name of the reference in headings; empty without one."""
    if (versus := versus_of(spec)) is None:
        return ""
    label = suite.models[versus.model].label
    return f"{label}, {ARM_NAMES[versus.arm]}" if versus.arm else label


def arm_name(arm: str, versus: str) -> str:
    """Return the heading of an arm or comparison of a table whose reference is `versus`."""
    if arm in ARM_NAMES:
        return ARM_NAMES[arm]
    return f"{ARM_NAMES[arm.removesuffix(VERSUS)]} vs {versus}"


def arm_rank(arm: str) -> int:
    """Return the position of an arm or comparison among the columns: arms, their comparisons, those with `versus`."""
    names = [*ARM_NAMES, *(name + VERSUS for name in ARM_NAMES)]
    return names.index(arm)


def is_comparison(arm: str) -> bool:
    """Return whether a record of this arm is a comparison."""
    return arm in OF_ARMS or is_versus(arm)


def is_versus(arm: str) -> bool:
    """Return whether a record of this arm is a comparison with the reference of `versus`."""
    return arm.endswith(VERSUS) and arm not in ARM_NAMES


def scale_of(spec: TableSpec, score: Score) -> str:
    """Return the scale on which a table compares two values of a score.

    With `differences`, errors are compared as in the source paper's table 8.3: the MSE as what is gained, others by
    their difference.
    """
    if not (spec.differences and score.metric.scale == RATIO):
        return score.metric.scale
    return GAIN if score.name == "paper_mse" else PLAIN


def key_of_test(contrast: Contrast, score: Score, spec: TableSpec) -> Hashable:
    """Return a key that is equal for comparisons with the same p-value, which count once in a family of tests.

    Pooled errors that are functions of each other, such as MSE and RMSE, are the same test on the scale of ratios;
    multiples of each other, such as RBIAS and NE, also as differences.
    """
    scale, name = scale_of(spec, score), score.name
    while spec.aggregation == POOLED and (scale == RATIO or METRICS[name].is_multiple) and METRICS[name].same_as:
        name = METRICS[name].same_as
    return contrast.first, contrast.second, name, tuple(sorted(score.at.items()))


def all_runs(suite: Suite, spec: TableSpec) -> Mapping[Run, None]:
    """Return every run that a table needs, each once, in order."""
    runs = [run for model in suite.shown(spec) for run in runs_of(suite, spec, model).values()]
    runs += [c.first for model in suite.shown(spec) for c in contrasts_of(suite, spec, model)]
    return dict.fromkeys(runs)
