"""Measure how often confidence intervals contain the true value, by drawing samples from many scored events."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records, common_events
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.stats.paired import Sums, compared, effect_of, of_one

LEVEL = 0.05
DRAWS = 2_000


@dataclass(frozen=True)
class CoverageCase:
    """Samples to draw.

    Attributes:
        score: Score to compare both arms by.
        groups: Number of groups of events in a sample.
        seeds: Number of training runs of each arm in a sample.
        null: Whether both arms are drawn from the runs of the second one, so that there is no effect.
        alone: Whether the interval of the second arm's score itself is looked at, not the comparison.
    """

    score: str
    groups: int
    seeds: int = 1
    null: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Coverage:
    """How the intervals of the samples relate to the true effect.

    Attributes:
        case: The samples.
        trials: Number of samples with an interval.
        covered: Share of them whose interval contains the true effect.
        below, above: Shares whose interval lies above and below it, so that the effect is missed below or above.
        significant: Share marked as significant; without an effect, the share of false ones.
        swapped: Share whose sign-flip test has p < 0.05.
        width: Median width of the intervals, in the unit of the effect.
        effect: True effect: of all runs, or, with a single seed of trained models, the mean of that of the runs drawn.
    """

    case: CoverageCase
    trials: int
    covered: float
    below: float
    above: float
    significant: float
    swapped: float
    width: float
    effect: float

    @property
    def error(self) -> float:
        """Binomial standard error of the share covered."""
        return float(np.sqrt(self.covered * (1 - self.covered) / max(self.trials, 1)))


@dataclass(frozen=True)
class _Outcome:
    """Interval of one sample, whether it is marked, the sign-flip p-value, and the true effect or score."""

    interval: Interval
    is_significant: bool
    sign_flip: float
    truth: float


def measure_coverage(
    first: Sequence[Records],
    second: Sequence[Records],
    case: CoverageCase,
    *,
    trained: bool | tuple[bool, bool],
    trials: int = 1000,
    draws: int = DRAWS,
    seed: int = 0,
) -> Coverage:
    """Draw samples of events and runs, and compare the arms in each as tables do.

    The recorded events stand for all storms: groups are drawn from them with replacement, the runs of an arm without.
    With one seed of a trained model the interval makes a statement about the drawn runs only, and is held against their
    effect on all events.

    Args:
        first: Records of the runs of the reference, which differ only in their seed.
        second: Records of the other arm's runs on the same events.
        case: Samples to draw.
        trained: Whether the runs depend on their seed, of both sides or of each. One that does not has a single run.
        trials: Number of samples.
        draws: Resamples of each interval.
        seed: Seed of the samples.

    Raises:
        BadInput: the runs were scored on different events, there are fewer runs than the samples need, or the records
            lack the score.
    """
    common_events([*first, *second])
    score = parse_score(case.score)
    sides = trained if isinstance(trained, tuple) else (trained, trained)
    arms = [Sums.of(score, second if case.null else first, sides[case.null]), Sums.of(score, second, sides[1])]
    for arm in arms:
        needed = case.seeds * (1 + case.null) if arm.trained else 1
        if len(arm.values) < needed:
            raise BadInput(f"samples need {needed} runs, there are {len(arm.values)}", "--seeds", "give fewer seeds")
    rng = np.random.default_rng([seed, case.groups, case.seeds, case.null])
    members = [np.flatnonzero(arms[0].groups == name) for name in np.unique(arms[0].groups)]
    is_of_runs = any(sides) and case.seeds == 1
    # Without an effect both arms hold the same runs, so that it is 0.
    common = None if is_of_runs else _truth(arms, case)
    outcomes = [_outcome(arms, members, case, rng, draws, common) for _ in range(trials)]
    return _summary(case, [outcome for outcome in outcomes if np.isfinite(outcome.interval.low)])


def _outcome(
    arms: Sequence[Sums],
    members: Sequence[npt.NDArray[np.int64]],
    case: CoverageCase,
    rng: np.random.Generator,
    draws: int,
    truth: float | None,
) -> _Outcome:
    """Draw one sample and compare its arms; without a common true effect, it is that of the runs drawn."""
    runs = [rng.permutation(len(arm.values))[: case.seeds] for arm in arms]
    if case.null:
        drawn = rng.permutation(len(arms[1].values))
        runs = [drawn[: case.seeds], drawn[case.seeds : 2 * case.seeds]]
    chosen = [replace(arm, values=arm.values[rows]) for arm, rows in zip(arms, runs, strict=True)]
    groups = [members[i] for i in rng.integers(len(members), size=case.groups)]
    events = np.concatenate(groups)
    names = np.repeat([f"{i}" for i in range(len(groups))], [len(group) for group in groups])
    samples = [replace(arm, values=arm.values[:, events], groups=names) for arm in chosen]
    truth = _truth(chosen, case) if truth is None else truth
    if case.alone:
        return _Outcome(of_one(samples[1], POOLED).interval, False, np.nan, truth)
    pair = compared(samples[0], samples[1], POOLED, draws)
    return _Outcome(pair.interval, pair.is_significant, pair.sign_flip, truth)


def _truth(arms: Sequence[Sums], case: CoverageCase) -> float:
    """Return the effect, or the score of the second arm, on all events."""
    if case.alone:
        return float(arms[1].score_of(arms[1].values.mean(0).sum(0)))
    return effect_of(arms[0], arms[1])


def _summary(case: CoverageCase, outcomes: Sequence[_Outcome]) -> Coverage:
    if not outcomes:
        return Coverage(case, 0, *[float("nan")] * 7)
    truths = np.array([outcome.truth for outcome in outcomes])
    low, high = (np.array([getattr(outcome.interval, name) for outcome in outcomes]) for name in ("low", "high"))
    return Coverage(
        case,
        trials=len(outcomes),
        covered=float(np.mean((low <= truths) & (truths <= high))),
        below=float(np.mean(truths < low)),
        above=float(np.mean(truths > high)),
        significant=float(np.mean([outcome.is_significant for outcome in outcomes])),
        swapped=float(np.mean([outcome.sign_flip < LEVEL for outcome in outcomes])),
        width=float(np.median(high - low)),
        effect=float(np.mean(truths)),
    )
