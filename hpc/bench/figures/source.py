"""Data of the figures: the records of every run, and scores computed from them as in tables."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.npz import check_npz
from polarcast.hpc.bench.numbers import Scores
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.suite import Suite, TableSpec
from polarcast.hpc.bench.table import build_table, is_random
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records

ARMS = ("radar", "dualpol")
_CASE_PARTS = ("radar", "observed", "forecast", "event", "frame")
_HEAVY = ("10", "35")
"""Thresholds of rain in mm/h, and of reflectivity in dBZ, that are heavy but not rare."""
Numbers = dict[tuple[str, str, str], Record]
"""Values with their intervals, by (model, arm, score)."""


@dataclass(frozen=True)
class Kept:
    """The kept cases of one run."""

    model: str
    arm: str
    cases: Path

    @cached_property
    def is_readable(self) -> bool:
        """Whether the file exists and is not damaged."""
        try:
            check_npz(self.cases)
            with np.load(self.cases) as content:
                return set(_CASE_PARTS) <= {name for name in content.files if content[name].size}
        except (OSError, ValueError, EOFError, KeyError, AttributeError, BadZipFile, zlib.error, BadInput):
            return False


@dataclass(frozen=True)
class FigureData:
    """A suite, the records of its runs by model and arm, and cases of one seed."""

    suite: Suite
    scores: Scores
    kept: Sequence[Kept] = ()

    @cached_property
    def shown(self) -> list[str]:
        """Models with one estimate per window that any table of the suite shows, in the order of the suite."""
        named = {m for table in self.suite.tables.values() for m in self.suite.shown(table)}
        return [m for m in self.suite.models if m in named and self.arms(m) and self.protocol(m).members == 1]

    @property
    def ensembles(self) -> list[str]:
        """Models with several members."""
        return [m for m in self.suite.models if self.arms(m) and self.protocol(m).members > 1]

    @property
    def counted(self) -> str:
        """Number of events and seeds of the models shown, as text."""
        return self.counted_of(self.shown)

    @property
    def intervals(self) -> str:
        """Name of the intervals of the models shown: one seed of a trained model has the events' variation only."""
        with_one = {model for (model, _), runs in self.scores.items() if len(runs) == 1 and model in self.shown}
        lacks_seeds = any(is_random(self.suite, model) for model in with_one)
        return "events' intervals" if lacks_seeds else "95% intervals"

    def counted_of(self, models: Sequence[str]) -> str:
        """Return the number of events and seeds of some models, as text."""
        runs = [self.scores[key] for key in self.scores if key[0] in models]
        seeds = sorted({len(by_seed) for by_seed in runs})
        count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
        return f"{len(runs[0][0].events)} test events, {count} seed{'s' * (count != '1')}"

    def arms(self, model: str) -> list[str]:
        """Return the arms a model was run on."""
        return [arm for arm in ARMS if (model, arm) in self.scores]

    def protocol(self, model: str) -> Protocol:
        """Return the protocol a model was scored with."""
        return self.scores[model, self.arms(model)[0]][0].protocol

    @property
    def is_rain(self) -> bool:
        """Whether the suite forecasts rain rate; otherwise it forecasts reflectivity."""
        return self.suite.task != "nowcast"

    @property
    def quantity(self) -> str:
        """Name of the forecast quantity."""
        return "rain rate" if self.is_rain else "reflectivity"

    @property
    def axis_name(self) -> str:
        """Name of the forecast quantity with its unit."""
        return f"{self.quantity} in {'mm/h' if self.is_rain else 'dBZ'}"

    @property
    def axis_scale(self) -> str:
        """Scale of axes of the forecast quantity: logarithmic for rain rate, linear for dBZ."""
        return "log" if self.is_rain else "linear"

    def label(self, model: str) -> str:
        """Return a model's name in tables."""
        return self.suite.models[model].label

    def holds(self, families: Sequence[str], models: Sequence[str] | None = None) -> bool:
        """Return whether all records of some models (by default those shown, at least one) hold these sums."""
        chosen = self.shown if models is None else models
        runs = [run for m in chosen for arm in self.arms(m) for run in self.runs(m, arm)]
        return bool(runs) and all(set(families) <= set(run.sums) for run in runs)

    def threshold(self, model: str) -> str:
        """Return the threshold of heavy events: 10 mm/h or 35 dBZ, or the middle threshold if that is not scored."""
        known = [f"{t:g}" for t in self.protocol(model).threshold]
        return next((heavy for heavy in _HEAVY if heavy in known), known[len(known) // 2])

    def numbers(self, metrics: Sequence[str], models: Sequence[str]) -> Numbers:
        """Return scores with their intervals, as tables show them."""
        table = TableSpec(title="figure", models=list(models), metrics=list(metrics))
        built = build_table("figure", replace(self.suite, tables={"figure": table}), self.scores, compare=False)
        return {(r.model, r.arm, r.metric): r for r in built.records}

    def pooled(self, model: str, arm: str, score: str) -> float:
        """Return a score pooled over all events and seeds."""
        parsed = parse_score(score)
        return float(parsed.of(self._summed(parsed, model, arm), self.protocol(model)))

    def along(self, model: str, arm: str, score: str) -> list[float]:
        """Return a score at each coordinate of the axis that is `*` in it."""
        scores = expand(parse_score(score), self.protocol(model))
        return [float(one.of(self._summed(one, model, arm), self.protocol(model))) for one in scores]

    def family(self, model: str, arm: str, name: str) -> Array:
        """Return a family's sums over all events, seeds, lead times and heights: (*axes, columns)."""
        return sum(run.sums[name].sum((0, 1, 2)) for run in self.runs(model, arm))  # type: ignore[return-value]

    def runs(self, model: str, arm: str) -> Sequence[Records]:
        """Return the records of each seed."""
        return self.scores[model, arm]

    def _summed(self, score: Score, model: str, arm: str) -> Array:
        return np.sum([score.sums(run).sum(0) for run in self.runs(model, arm)], axis=0)
