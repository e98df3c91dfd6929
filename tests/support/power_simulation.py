"""Simulations behind docs/guides/power.md: the power of the project's test at the recommended groups and seeds.

`python -m tests.support.power_simulation made-up` draws from distributions with known variance components, and
`… pool SUITE` from the events and runs of a suite with many of them, such as `polarcast bench coverage` makes. Each
prints one JSON object; docs/results holds both.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.stats.bootstrap import Statistic, interval
from polarcast.hpc.scores.stats.power import Needed, Spread, groups_needed, spread_of

DRAWS = 400
"""Resamples of each interval; their noise is part of the power measured."""


@dataclass(frozen=True)
class MadeUp:
    """Comparison with known variance components.

    Attributes:
        kind: Distribution of groups and of what groups and runs share: normal, t5 (Student, 5 degrees of freedom), or
            lognormal.
        spread: Variance components; those over groups are 1.
    """

    kind: str
    spread: Spread

    def draw(self, rng: np.random.Generator, groups: int, runs: Sequence[int], effect: float) -> list[Array]:
        """Return sums (k, g, 2) of value and count of both arms, whose means differ by the effect."""
        common, differing = 3 * self._values(rng, groups), self._values(rng, groups)
        arms = []
        for arm, k in enumerate(runs):
            values = common + (effect + math.sqrt(self.spread.of_groups) * differing if arm else 0)
            values = values + math.sqrt(self.spread.of_seeds[arm]) * rng.normal(size=(k, 1))
            values = values + math.sqrt(self.spread.of_both[arm]) * self._values(rng, k, groups)
            arms.append(np.stack([values, np.ones_like(values)], -1))
        return arms

    def _values(self, rng: np.random.Generator, *shape: int) -> Array:
        """Return values with mean 0 and variance 1."""
        if self.kind == "t5":
            return np.asarray(rng.standard_t(5, shape) / math.sqrt(5 / 3))
        if self.kind == "lognormal":
            sigma = 0.7
            mean, variance = math.exp(sigma**2 / 2), math.expm1(sigma**2) * math.exp(sigma**2)
            return np.asarray((rng.lognormal(0, sigma, shape) - mean) / math.sqrt(variance))
        return rng.normal(size=shape)


CASES = (
    ("no seeds", (1, 1), (0.0, 0.0), (0.0, 0.0), ((1, 0.5), (1, 0.25))),
    ("small spread of seeds", (3, 3), (0.01, 0.01), (0.25, 0.25), ((3, 0.5), (5, 0.5), (8, 0.4))),
    ("seeds of one arm", (1, 3), (0.0, 0.01), (0.0, 0.25), ((3, 0.5), (5, 0.5))),
    ("large spread of seeds", (3, 3), (0.09, 0.09), (0.09, 0.09), ((5, 0.8), (8, 0.8))),
)
"""Name, runs of a pilot, variances of seeds and of group and run, and the seeds and effects of the plans."""


def difference_of_means(sums: Array) -> Array:
    return np.asarray(sums[..., 2] / sums[..., 3] - sums[..., 0] / sums[..., 1])


def kurtosis_of(kind: str) -> float:
    sigma2 = 0.7**2
    lognormal = math.exp(4 * sigma2) + 2 * math.exp(3 * sigma2) + 3 * math.exp(2 * sigma2) - 6
    return {"normal": 0.0, "t5": 6.0, "lognormal": lognormal}[kind]


def made_up(kind: str, case: tuple[Any, ...]) -> MadeUp:
    """Return the comparison of one of `CASES`."""
    _, runs, of_seeds, of_both, _ = case
    return MadeUp(kind, Spread(40, runs, 1.0, of_seeds, of_both, 1.0, kurtosis_of(kind)))


def found_share(
    draw: Callable[[np.random.Generator], tuple[Sequence[Array], Statistic]], trials: int, seed: int = 0
) -> float:
    """Return the share of samples whose interval excludes zero."""
    rng = np.random.default_rng(seed)
    return float(np.mean([interval(*draw(rng), draws=DRAWS, seed=i).excludes_zero for i in range(trials)]))


def made_up_rows(trials: int) -> list[dict[str, Any]]:
    """Return the power at the recommended groups of each distribution and case."""
    rows = []
    for kind in ("normal", "t5", "lognormal"):
        for case in CASES:
            one = made_up(kind, case)
            for seeds, effect in case[-1]:
                groups = int(groups_needed(one.spread, effect, seeds).groups)
                runs = one.spread.runs_of(seeds)
                share = found_share(lambda rng: (one.draw(rng, groups, runs, effect), difference_of_means), trials)  # noqa: B023
                rows.append({"kind": kind, "case": case[0], "seeds": seeds if one.spread.has_seeds else None,
                             "effect": effect, "groups": groups, "power": share, "trials": trials})  # fmt: skip
    return rows


POOL_CASES = (
    ("rmse", 0.2, (3, 5)), ("paper_rbias", 0.1, (5, 8)), ("csi@threshold=10", 0.05, (3, 8)),
    ("csi@threshold=30", 0.1, (3, 5)),
)  # fmt: skip
"""Score, gain, and numbers of seeds."""


def pool_rows(suite: Path, trials: int, pilots: int) -> list[dict[str, Any]]:
    """Return the power at the groups that the pool's spread recommends, and what pilots of 60 groups and 3 seeds say.

    Groups and runs are drawn with replacement. The effect of the pool is replaced by the gain.
    """
    from polarcast.hpc.scores.query import parse_score
    from polarcast.hpc.scores.records import read_records
    from polarcast.hpc.scores.stats.paired import RATIO, Sums, comparison_of

    files = [sorted(suite.glob(f"cells/unet-{arm}-s*/scores.parquet")) for arm in ("radar", "dualpol")]
    records = [[read_records(file) for file in of] for of in files]
    rows = []
    for name, gain, numbers in POOL_CASES:
        score = parse_score(name)
        arms, statistic = comparison_of(*(Sums.of(score, runs, trained=True) for runs in records))
        truth = float(statistic(np.concatenate([arm.mean(0).sum(0) for arm in arms])))
        effect = -math.log1p(-gain) if score.metric.scale == RATIO else gain

        def shifted(s: Array, statistic: Statistic = statistic, shift: float = effect - truth) -> Array:
            return statistic(s) + shift

        spread = spread_of(arms, statistic)
        assert spread is not None
        for seeds in numbers:
            need = groups_needed(spread, effect, seeds)
            share = found_share(lambda rng: (_sample(arms, rng, int(need.groups), seeds), shifted), trials)  # noqa: B023
            rows.append({"score": name, "gain": gain, "seeds": seeds, "groups": int(need.groups), "power": share,
                         "trials": trials, **_of_pilots(arms, statistic, effect, seeds, need, pilots)})  # fmt: skip
    return rows


def _of_pilots(
    arms: Sequence[Array], statistic: Statistic, effect: float, seeds: int, need: Needed, pilots: int
) -> dict[str, Any]:
    """Return the median that pilots recommend, and how often their range contains what the pool recommends."""
    rng, answers = np.random.default_rng(1), list[Needed]()
    for _ in range(pilots):
        if spread := spread_of(_sample(arms, rng, 60, 3), statistic, draws=DRAWS):
            answers.append(groups_needed(spread, effect, seeds))
    within = [answer.low <= need.groups <= answer.high for answer in answers]
    median = float(np.quantile([answer.groups for answer in answers], 0.5, method="inverted_cdf"))
    return {"pilots": len(answers), "median": median if math.isfinite(median) else None,
            "within": float(np.mean(within))}  # fmt: skip


def _sample(arms: Sequence[Array], rng: np.random.Generator, groups: int, seeds: int) -> list[Array]:
    chosen = rng.integers(arms[0].shape[1], size=groups)
    return [arm[rng.integers(len(arm), size=seeds)][:, chosen] for arm in arms]


if __name__ == "__main__":
    if sys.argv[1] == "made-up":
        print(json.dumps({"rows": made_up_rows(500)}))
    else:
        print(json.dumps({"rows": pool_rows(Path(sys.argv[2]), 300, 30)}))
