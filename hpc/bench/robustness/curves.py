"""Curves of scores and gains along the levels of a perturbation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polarcast.data.degrade.perturbation import Perturbation
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.cells import Cell
from polarcast.hpc.bench.robustness.crossing import Crossing, crossing
from polarcast.hpc.bench.robustness.result import Number, Point, RobustCurve, number
from polarcast.hpc.bench.robustness.spec import Series
from polarcast.hpc.evaluation.degraded import DegradedScores
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.records import Records, common_events, read_records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.stats.paired import RATIO, Sums, compared, of_one


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its cell and its folder."""

    cell: Cell
    run: RunFolder


RunsByArm = Mapping[str, Sequence[FinishedRun]]
Loaded = Mapping[tuple[str, str], Sequence[Records]]
"""Records of each seed, by (arm, perturbation)."""


@dataclass(frozen=True)
class LevelPlan:
    """The runs of one model, the levels that apply to them, the families of sums, and the archive if it is another."""

    model: str
    runs: RunsByArm
    series: Series
    families: tuple[str, ...]
    on: str = ""

    def jobs(self, manifest: Manifest) -> list[DegradedScores]:
        """Return the records that are missing."""
        return [job for job in self.needed(manifest) if job.known(manifest) is None]

    def needed(self, manifest: Manifest) -> list[DegradedScores]:
        """Return the records of perturbed input, whether they are there or not."""
        wanted = [self._needed(found, one, manifest) for of_arm in self.runs.values() for found in of_arm
                  for one in self.series.perturbations]  # fmt: skip
        return [job for job in wanted if job is not None]

    def load(self, manifest: Manifest) -> Loaded:
        """Read the records of all levels. Raises BadInput if some are damaged, or of different events."""
        loaded = {
            (arm, str(one)): [self._read(found, one, manifest) for found in of_arm]
            for arm, of_arm in self.runs.items()
            for one in self.series.perturbations
        }
        common_events([records for of_level in loaded.values() for records in of_level])
        return loaded

    def first(self, manifest: Manifest) -> Records:
        """Read the records of the first level of one run."""
        return self._read(self.runs["radar"][0], self.series.perturbations[0], manifest)

    def _needed(self, found: FinishedRun, perturbation: Perturbation, manifest: Manifest) -> DegradedScores | None:
        """Return the records of a run under a perturbation; None if those of its evaluation are the same."""
        chosen = perturbation.seen_by(_inputs(found))
        if not chosen.steps and has_own_records(found.run, manifest, self.families):
            return None
        return DegradedScores(found.run.path, chosen, self.families, self.on)

    def _read(self, found: FinishedRun, perturbation: Perturbation, manifest: Manifest) -> Records:
        job = self._needed(found, perturbation, manifest)
        return read_records(found.run.output.scores if job is None else job.scores)


def _inputs(found: FinishedRun) -> set[str]:
    """Return the variables that a run may see: its inputs, and zh of the last frame for a nowcast."""
    config = found.cell.config
    return {*config.variables(), *(["zh"] if config.is_nowcast else [])}


def has_own_records(run: RunFolder, manifest: Manifest, families: Sequence[str]) -> bool:
    """Return whether the records of a run's evaluation are of these shards and hold all families."""
    records = read_records(run.output.scores)
    return records.data == manifest.digest() and set(families) <= records.sums.keys()


def curve_of(plan: LevelPlan, score: Score, loaded: Loaded) -> RobustCurve:
    """Compute the scores of both arms, and the gain, at each level, and where the gain is gone."""
    points = tuple(_point(plan, score, level, str(one), loaded) for level, one in _levels(plan.series))
    neutral = plan.series.neutral
    gone = () if neutral is None else _gone(points, neutral)
    level = None if neutral is None else float(points[neutral].level)
    return RobustCurve(plan.model, str(score), plan.series.name, level, points, gone)


def _levels(series: Series) -> Sequence[tuple[float | str, Perturbation]]:
    return list(zip(series.levels, series.perturbations, strict=True))


def _point(plan: LevelPlan, score: Score, level: float | str, perturbation: str, loaded: Loaded) -> Point:
    sides = [
        Sums.of(score, loaded[arm, perturbation], trained=plan.runs[arm][0].cell.is_random)
        for arm in ("radar", "dualpol")
    ]
    radar, dualpol = (_number(of_one(side, POOLED).interval) for side in sides)
    pair = compared(sides[0], sides[1], POOLED)
    sign = -1 if pair.scale == RATIO or score.metric.direction == "lower" else 1
    limits = sorted((sign * pair.interval.low, sign * pair.interval.high))
    return Point(level, radar, dualpol, number(sign * pair.interval.value, *limits))


def _number(found: Interval) -> Number:
    return number(found.value, found.low, found.high)


def _gone(points: Sequence[Point], neutral: int) -> tuple[Crossing, ...]:
    """Follow the gain from the neutral level to both ends of the levels."""
    sides = [points[neutral:], points[neutral::-1]]
    return tuple(_crossing(side) for side in sides if len(side) > 1)


def _crossing(points: Sequence[Point]) -> Crossing:
    def values(name: str) -> list[float]:
        return [np.nan if (x := getattr(point.gain, name)) is None else float(x) for point in points]

    return crossing([float(point.level) for point in points], values("value"), values("low"), values("high"))
