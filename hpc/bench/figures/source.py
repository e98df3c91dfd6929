"""What pictures are drawn from: the records of every run, and the numbers that tables make of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from polarcast.hpc.bench.suite import Suite, TableSpec
from polarcast.hpc.bench.table import DIFFERENCE, Record, Scores, build_table
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records

ARMS = ("radar", "dualpol")
_HEAVY = ("10", "35")
"""Thresholds of rain in mm/h, and of reflectivity in dBZ, that are heavy but not rare."""
Numbers = dict[tuple[str, str, str], Record]
"""(model, arm, score) → number with its interval."""


@dataclass(frozen=True)
class Kept:
    """The kept cases of one run."""

    model: str
    arm: str
    cases: Path


@dataclass(frozen=True)
class FigureData:
    """A suite, the records of its runs by model and arm, and cases of one seed."""

    suite: Suite
    scores: Scores
    kept: Sequence[Kept] = ()

    @cached_property
    def shown(self) -> list[str]:
        """Models with one estimate for each window, in the order of the suite, that stand in any of its tables."""
        named = {m for table in self.suite.tables.values() for m in self.suite.shown(table)}
        return [m for m in self.suite.models if m in named and self.arms(m) and self.protocol(m).members == 1]

    @property
    def ensembles(self) -> list[str]:
        """Models with several members."""
        return [m for m in self.suite.models if self.arms(m) and self.protocol(m).members > 1]

    @property
    def counted(self) -> str:
        """How many events and seeds stand behind a picture."""
        return self.counted_of(self.shown)

    def counted_of(self, models: Sequence[str]) -> str:
        """How many events and seeds stand behind a picture of some models."""
        runs = [self.scores[key] for key in self.scores if key[0] in models]
        seeds = sorted({len(of) for of in runs})
        told = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
        return f"{len(runs[0][0].events)} test events, {told} seed{'s' * (told != '1')}"

    def arms(self, model: str) -> list[str]:
        """The arms a model was run on."""
        return [arm for arm in ARMS if (model, arm) in self.scores]

    def protocol(self, model: str) -> Protocol:
        """How a model was scored."""
        return self.scores[model, self.arms(model)[0]][0].protocol

    @property
    def is_rain(self) -> bool:
        """Whether rain rate is forecast; else it is reflectivity."""
        return self.suite.task != "nowcast"

    @property
    def quantity(self) -> str:
        """What is forecast, in words."""
        return "rain rate" if self.is_rain else "reflectivity"

    @property
    def axis_name(self) -> str:
        """What is forecast, with its unit."""
        return f"{self.quantity} in {'mm/h' if self.is_rain else 'dBZ'}"

    @property
    def axis_scale(self) -> str:
        """Of a picture's axis: logarithmic for what is not logarithmic already."""
        return "log" if self.is_rain else "linear"

    def label(self, model: str) -> str:
        """Its name in tables."""
        return self.suite.models[model].label

    def holds(self, families: Sequence[str], models: Sequence[str] | None = None) -> bool:
        """Whether there are such models, by default those shown, and all of their records hold these sums."""
        of = self.shown if models is None else models
        runs = [run for m in of for arm in self.arms(m) for run in self.runs(m, arm)]
        return bool(runs) and all(set(families) <= set(run.sums) for run in runs)

    def threshold(self, model: str) -> str:
        """Of events that are heavy but not rare: 10 mm/h or 35 dBZ, or what is scored in its place."""
        known = [f"{t:g}" for t in self.protocol(model).threshold]
        return next((heavy for heavy in _HEAVY if heavy in known), known[len(known) // 2])

    def numbers(self, metrics: Sequence[str], models: Sequence[str]) -> Numbers:
        """Scores with their intervals, as a table would show them."""
        table = TableSpec(title="figure", models=list(models), metrics=list(metrics))
        built = build_table("figure", replace(self.suite, tables={"figure": table}), self.scores)
        return {(r.model, r.arm, r.metric): r for r in built.records if r.arm != DIFFERENCE}

    def pooled(self, model: str, arm: str, score: str) -> float:
        """A score of all events and seeds together."""
        asked = parse_score(score)
        return float(asked.of(self._added(asked, model, arm), self.protocol(model)))

    def along(self, model: str, arm: str, score: str) -> list[float]:
        """A score at each coordinate where it asks for `*`."""
        asked = expand(parse_score(score), self.protocol(model))
        return [float(one.of(self._added(one, model, arm), self.protocol(model))) for one in asked]

    def family(self, model: str, arm: str, name: str) -> Array:
        """A family's sums over all events, seeds, lead times and heights: (*axes, columns)."""
        return sum(run.sums[name].sum((0, 1, 2)) for run in self.runs(model, arm))  # type: ignore[return-value]

    def runs(self, model: str, arm: str) -> Sequence[Records]:
        """Records of each seed."""
        return self.scores[model, arm]

    def _added(self, score: Score, model: str, arm: str) -> Array:
        return np.sum([score.sums(run).sum(0) for run in self.runs(model, arm)], axis=0)
