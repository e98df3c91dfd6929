"""Scores of estimates at gauges, by distance and by amount, and comparisons between estimates."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from polarcast.data.gauges.gauge import Real
from polarcast.hpc.evaluation.gauges.pairs import MODES, PIXEL, Pairs, chosen_pairs
from polarcast.hpc.evaluation.gauges.patches import Mask
from polarcast.hpc.evaluation.gauges.two_way import Crossed, CrossedInterval, crossed_interval
from polarcast.hpc.scores.categorical import categorical
from polarcast.hpc.scores.continuous import continuous
from polarcast.hpc.scores.ratios import Array, logarithm, quotient
from polarcast.hpc.scores.stats.bootstrap import Statistic

THRESHOLDS_MM = (0.5, 1.0, 5.0, 10.0)
RANGES_KM = (0.0, 30.0, 60.0, 90.0, 120.0, math.inf)
AMOUNTS_MM = (0.0, 0.5, 1.0, 5.0, 10.0, math.inf)
FEWEST_PAIRS = 5
"""Pairs of a stratum below which no score is given."""


@dataclass(frozen=True)
class GaugeScore:
    """A score at gauges.

    Attributes:
        label: Name in tables.
        unit: Unit.
        perfect: Best value.
        of: Function of sums (…, s).
        threshold: Amount in mm whose table of hits and misses it uses; None for moments.
        is_ratio: Whether it is positive, and intervals and comparisons are made on its logarithm.
        limits: Possible values.
    """

    label: str
    unit: str
    perfect: float
    of: Callable[[Array], Array]
    threshold: float | None = None
    is_ratio: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)


def _bias(sums: Array) -> Array:
    return quotient(sums[..., 2], sums[..., 1])


SCORES: dict[str, GaugeScore] = {
    "bias": GaugeScore("bias", "", 1.0, _bias, is_ratio=True),
    "mae": GaugeScore("MAE", "mm", 0.0, partial(continuous, "mae"), is_ratio=True),
    "rmse": GaugeScore("RMSE", "mm", 0.0, partial(continuous, "rmse"), is_ratio=True),
    "cc": GaugeScore("CC", "", 1.0, partial(continuous, "cc"), limits=(-1.0, 1.0)),
    "kge": GaugeScore("KGE", "", 1.0, partial(continuous, "kge"), limits=(-math.inf, 1.0)),
    **{
        f"csi@{mm:g}": GaugeScore(f"CSI ≥ {mm:g} mm", "", 1.0, partial(categorical, "csi"), mm, limits=(0.0, 1.0))
        for mm in THRESHOLDS_MM
    },
}
"""Scores by name. Bias is the sum of the estimates over that of the gauges."""
COMPARED = ("rmse", "mae", "cc")


@dataclass(frozen=True)
class Stratum:
    """Pairs of one class: its name, the number of pairs, and scores of each estimator."""

    name: str
    pairs: int
    scores: dict[str, dict[str, CrossedInterval]]


@dataclass(frozen=True)
class GaugeComparison:
    """Scores of a second estimator against a first: second / first − 1 of errors, second − first of others."""

    first: str
    second: str
    scores: dict[str, CrossedInterval]


def terms_of(pairs: Pairs, estimator: str, mode: str, threshold: float | None = None) -> Array:
    """Return what the sums of a score are made of, by seed and pair.

    Args:
        pairs: Pairs.
        estimator: Name.
        mode: One of `MODES`.
        threshold: Amount in mm.

    Returns:
        `continuous.MOMENTS` (k, p, 8), or hits, misses, false alarms and correct negatives at the threshold (k, p, 4).
    """
    f = pairs.estimates[estimator][:, MODES.index(mode)]
    o = np.broadcast_to(pairs.gauge, f.shape)
    if threshold is None:
        error = f - o
        return np.stack([np.ones_like(f), o, f, np.abs(error), error**2, o**2, f**2, o * f], -1)
    said, seen = f >= threshold, o >= threshold
    return np.stack([said & seen, ~said & seen, said & ~seen, ~said & ~seen], -1).astype(np.float64)


def score(pairs: Pairs, estimator: str, mode: str, name: str, groups: Crossed) -> CrossedInterval:
    """Return a score of an estimator with its interval."""
    chosen = SCORES[name]
    terms = terms_of(pairs, estimator, mode, chosen.threshold)
    found = crossed_interval([terms], _on_scale(chosen), groups)
    value = float(chosen.of(terms.mean(0).sum(0)))
    made = found.interval.mapped(_exp) if chosen.is_ratio else found.interval
    # Without a hit, or without a miss, resamples do not differ: an interval of no width would claim to be certain.
    limits = [made.low, made.high] if made.low < made.high else [math.nan, math.nan]
    low, high = np.clip(limits, *((0.0, math.inf) if chosen.is_ratio else chosen.limits))
    made = type(made)(value, float(low), float(high), made.error, made.p_value)
    return CrossedInterval(made, found.over)


def compare(pairs: Pairs, first: str, second: str, groups: Crossed, mode: str = PIXEL) -> GaugeComparison:
    """Compare two estimators on the same pairs."""
    out = {}
    for name in COMPARED:
        chosen = SCORES[name]
        arms = [terms_of(pairs, estimator, mode, chosen.threshold) for estimator in (first, second)]
        value, width = _on_scale(chosen), arms[0].shape[-1]
        found = crossed_interval(arms, partial(_difference, value, width), groups)
        out[name] = CrossedInterval(found.interval.mapped(_expm1), found.over) if chosen.is_ratio else found
    return GaugeComparison(first, second, out)


def strata(
    pairs: Pairs, of_pair: Real, edges: Sequence[float], unit: str, names: Sequence[str], estimators: Sequence[str]
) -> list[Stratum]:
    """Return scores by class of a quantity of the pairs, (p,): at least the lower edge, below the upper one."""
    out = []
    for low, high in pairwise(edges):
        which: Mask = (of_pair >= low) & (of_pair < high)
        if int(which.sum()) < FEWEST_PAIRS:
            continue
        part = chosen_pairs(pairs, which)
        groups = Crossed.of(part)
        scores = {e: {name: score(part, e, PIXEL, name, groups) for name in names} for e in estimators}
        label = f"≥ {low:g} {unit}" if math.isinf(high) else f"{low:g}–{high:g} {unit}"
        out.append(Stratum(label, len(part), scores))
    return out


def _on_scale(chosen: GaugeScore) -> Statistic:
    return (lambda sums: logarithm(chosen.of(sums))) if chosen.is_ratio else chosen.of


def _difference(value: Statistic, width: int, sums: Array) -> Array:
    return np.asarray(value(sums[..., width:]) - value(sums[..., :width]), np.float64)


def _exp(value: float) -> float:
    return math.exp(value) if math.isfinite(value) and value < 700 else math.nan


def _expm1(value: float) -> float:
    return math.expm1(value) if math.isfinite(value) and value < 700 else math.nan
