"""Coverage of the confidence intervals of a finished suite."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import read_manifest
from polarcast.data.workers import run_all
from polarcast.hpc.bench.cells import Cell, SuiteFolder, cells_of
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.bench.table import is_random
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.scores.stats.coverage import Coverage, CoverageCase, measure_coverage

USUAL = {
    "qpe": ("rmse", "paper_rbias", "csi@threshold=10", "csi@threshold=30"),
    "nowcast": ("csi@threshold=20", "csi@threshold=35"),
}
"""Scores of which the coverage is measured by default, by task."""


@dataclass(frozen=True)
class Compared:
    """The two sides that are compared: a model and an arm each."""

    first: tuple[str, str]
    second: tuple[str, str]

    @classmethod
    def parse(cls, suite: Suite, first: str, second: str) -> "Compared":
        """Parse `ARM` or `MODEL:ARM`; without a model, that with the most runs is meant, of those with both arms.

        Raises:
            BadInput: a model or arm is unknown.
        """
        sides = [text.rpartition(":") for text in (first, second)]
        arms = {arm for _, _, arm in sides}
        having = [name for name in suite.models if arms <= set(suite.arms_of(name))] or list(suite.models)
        usual = max(having, key=lambda name: len(suite.seeds_of(name)) if is_random(suite, name) else 1)
        found = [(model or usual, arm) for model, _, arm in sides]
        for option, (model, arm) in zip(("--first", "--second"), found, strict=True):
            if model not in suite.models or arm not in suite.arms_of(model):
                known = ", ".join(f"{name}:{arm}" for name in suite.models for arm in suite.arms_of(name))
                raise BadInput(f"{model}:{arm} is not run in this suite", option, f"choose from: {known}")
        return cls(found[0], found[1])

    def __str__(self) -> str:
        return " vs ".join(":".join(side) for side in (self.second, self.first))


@dataclass(frozen=True)
class CoverageJob:
    """Records of both sides, and the samples to draw from them."""

    first: tuple[Path, ...]
    second: tuple[Path, ...]
    case: CoverageCase
    trained: tuple[bool, bool]
    trials: int


def coverage_jobs(
    path: Path,
    first: str,
    second: str,
    *,
    scores: Sequence[str] = (),
    groups: Sequence[int] = (40, 60, 160),
    seeds: Sequence[int] = (1, 3),
    null: bool = False,
    alone: bool = False,
    trials: int = 1000,
) -> tuple[str, list[CoverageJob]]:
    """Plan the measurement of coverage on the test events and runs of a finished suite.

    Args:
        path: Folder of the suite.
        first: Reference, `ARM` or `MODEL:ARM`.
        second: Arm or model compared with it.
        scores: Scores; by default those of `USUAL`.
        groups: Numbers of groups of events in a sample.
        seeds: Numbers of runs of each arm in a sample; models without randomness have one.
        null: Whether to draw both arms from the runs of the second.
        alone: Whether to look at the second arm's scores themselves, not at the comparison.
        trials: Samples per row.

    Returns:
        What is compared, and one job for each score, number of groups and number of seeds.

    Raises:
        BadInput: the suite is not finished, lacks a side, has too few runs, or its records lack a score.
    """
    suite = saved_suite(path)
    sides = Compared.parse(suite, first, second)
    folder = SuiteFolder(path, suite.data)
    manifest, cells = read_manifest(folder.shards), cells_of(suite, folder.shards)
    runs = [[c for c in cells if (c.model, c.arm) == side] for side in (sides.first, sides.second)]
    files = [tuple(folder.cell(cell, manifest).output.scores for cell in side) for side in runs]
    trained = (any(cell.is_random for cell in runs[0]), any(cell.is_random for cell in runs[1]))
    cases = [
        CoverageCase(score, count, k, null, alone)
        for score in scores or USUAL[suite.task]
        for count in groups
        for k in (seeds if any(trained) else (1,))
    ]
    _check(cases, [side for side, is_random in zip(runs, trained, strict=True) if is_random or null], files[0][0])
    title = ":".join(sides.second) if alone else str(sides)
    return title, [CoverageJob(files[0], files[1], case, trained, trials) for case in cases]


def run_jobs(jobs: Sequence[CoverageJob], workers: int, on_job: Callable[[int], None] | None = None) -> list[Coverage]:
    """Measure the coverage of each job in worker processes. Raises BadInput if records are damaged or differ."""
    found: dict[int, Coverage] = {}
    for index, outcome in run_all(_measure, jobs, workers, isolated=workers > 1):
        if isinstance(outcome, BadInput):
            raise outcome
        found[index] = outcome
        if on_job:
            on_job(len(found))
    return [found[index] for index in range(len(jobs))]


def _check(cases: Sequence[CoverageCase], random: Sequence[Sequence[Cell]], file: Path) -> None:
    """Raise BadInput if there are too few runs for a case, or a score is not in the records."""
    records = read_records(file)
    for case in cases:
        parse_score(case.score).sums(records)
        needed, least = case.seeds * (1 + case.null), min(map(len, random[-1:] if case.null else random), default=1)
        if needed > least:
            raise BadInput(f"samples need {needed} runs, there are {least}", "--seeds", "give fewer seeds")


def _measure(job: CoverageJob) -> Coverage:
    first, second = ([read_records(file) for file in files] for files in (job.first, job.second))
    return measure_coverage(first, second, job.case, trained=job.trained, trials=job.trials)


def as_row(found: Coverage) -> dict[str, Any]:
    """Return plain values for JSON."""
    case = found.case
    return {
        "score": case.score, "groups": case.groups, "seeds": case.seeds, "null": case.null, "alone": case.alone,
        "trials": found.trials,
        "covered": found.covered, "error": found.error, "below": found.below, "above": found.above,
        "significant": found.significant, "sign_flip": found.swapped, "width": found.width, "effect": found.effect,
    }  # fmt: skip


def coverage_table(title: str, found: Sequence[Coverage]) -> Table:
    """Return the results as a table for the terminal."""
    table = Table(title=escape(title), title_justify="left", caption_justify="left", caption=_caption(found))
    for name in ("score", "groups", "seeds"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for name in ("covered", "missed below", "above", "marked *", "sign-flip p < 0.05", "median width"):
        table.add_column(name, justify="right")
    for row in found:
        case = row.case
        shares = (row.below, row.above, row.significant, row.swapped)
        table.add_row(
            escape(case.score), str(case.groups), str(case.seeds), f"{row.covered:.1%} ± {row.error:.1%}",
            *(f"{share:.1%}" for share in shares), f"{row.width:.3g}",
        )  # fmt: skip
    return table


def _caption(found: Sequence[Coverage]) -> str:
    trials = min(row.trials for row in found)
    notes = [f"95% intervals of {trials} samples or more; ± is the binomial standard error."]
    if any(row.case.null for row in found):
        notes.append("Both arms are of the same kind of run: every mark is a false one.")
    if any(row.case.seeds == 1 and not row.significant for row in found):
        notes.append("With one seed of a trained model the interval is about the drawn runs only, and has no mark.")
    return "\n".join(notes)
