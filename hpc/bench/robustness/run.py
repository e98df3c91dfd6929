"""Score the runs of a suite under perturbed input, and find the level at which the gain from dual-pol is gone."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from polarcast.data.check.shared_events import shared_event
from polarcast.data.degrade.setup import RadarSetup
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.workers import run_all
from polarcast.hpc.bench.cells import Cell, SuiteFolder, cells_of
from polarcast.hpc.bench.notes import rain_note
from polarcast.hpc.bench.robustness.curves import FinishedRun, LevelPlan, curve_of
from polarcast.hpc.bench.robustness.render import write_tables
from polarcast.hpc.bench.robustness.result import (
    FILE,
    MADE_FROM,
    RobustCurve,
    RobustModel,
    Robustness,
    RobustScore,
    write_robustness,
)
from polarcast.hpc.bench.robustness.spec import USUAL, USUAL_SCORES, RobustnessSpec, Series, series_of
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.bench.unfinished import is_scored
from polarcast.hpc.evaluation.degraded import FOLDER, DegradedScores, score_degraded
from polarcast.hpc.evaluation.shards import shards_of
from polarcast.hpc.scores.query import Score, check_available, check_single, parse_score
from polarcast.hpc.scores.records import Records, read_records
from polarcast.hpc.scores.stats.paired import DIFFERENCE, RATIO
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.hpc.utils.text import printable

_log = logging.getLogger("polarcast")
ARMS = ("radar", "dualpol")
_LONG_HOURS = 1.0
"""Expected hours from which the time is told before the work."""


@dataclass(frozen=True)
class _Job:
    """Records to compute, and the shards to read."""

    scores: DegradedScores
    shards: str


@dataclass(frozen=True)
class _Planned:
    """Runs by model and arm, what is done to their input, the scores, the levels, and what is left out."""

    runs: Mapping[str, Mapping[str, Sequence[FinishedRun]]]
    series: Sequence[Series]
    scores: Sequence[Score]
    plans: Sequence[LevelPlan]
    left_out: tuple[str, ...]


def robustness_of(
    suite: Suite,
    folder: SuiteFolder,
    spec: RobustnessSpec,
    board: ProgressBoard,
    workers: int = 1,
    out: Path | None = None,
    archive: Path | None = None,
) -> Robustness:
    """Score the finished runs of a suite under perturbed input, and write the result with tables and figures.

    Records are kept with each run; complete ones are not computed again.

    Args:
        suite: Suite that was run.
        folder: Folder of the suite.
        spec: Models, scores and perturbations.
        board: Progress board.
        workers: Number of processes.
        out: Output folder; `robustness` in the suite's folder by default, or in its folder of the archive.
        archive: Archive to score on, all of its events; by default the test split of the suite.

    Raises:
        BadInput: a model, score or perturbation is unknown or does not apply, no model is finished on both arms, or
            `archive` is none.
    """
    on = archive.resolve().name if archive else ""
    place = folder.path / "on" / on if on else folder.path
    out = out or place / FOLDER
    trained_on = read_manifest(folder.shards)
    chosen = _chosen(suite, folder, spec, trained_on)
    with sole_writer(checked_output(out, is_folder=True)):
        manifest = _shards_of_archive(suite, archive, trained_on, place, board) if archive else trained_on
        planned = _planned(chosen, manifest, on)
        _compute([job for plan in planned.plans for job in plan.jobs(manifest)], manifest, board, workers)
        result = _result(suite, planned, manifest, on, board)
        _write(out, result)
    return result


def result_of_records(suite: Suite, folder: SuiteFolder, manifest: Manifest, board: ProgressBoard) -> Robustness:
    """Compute the analysis that a suite asks for from its records alone; weights and shards are not needed.

    Raises:
        BadInput: records are missing or damaged.
    """
    chosen = _chosen(suite, folder, suite.robustness or RobustnessSpec(), manifest, needs_weights=False)
    return _result(suite, _planned(chosen, manifest), manifest, "", board)


def records_of_result(suite: Suite, folder: SuiteFolder, manifest: Manifest) -> list[Path]:
    """Return the files with the records of perturbed input that the analysis of a suite is computed from."""
    chosen = _chosen(suite, folder, suite.robustness or RobustnessSpec(), manifest, needs_weights=False)
    planned = _planned(chosen, manifest)
    return list(dict.fromkeys(job.scores for plan in planned.plans for job in plan.needed(manifest)))


def _chosen(
    suite: Suite, folder: SuiteFolder, spec: RobustnessSpec, trained_on: Manifest, needs_weights: bool = True
) -> _Planned:
    """Return runs, levels and scores, without what applies of them. Raises BadInput; see `robustness_of`."""
    series, scores = series_of(spec.perturbations or USUAL), scores_of(suite, spec)
    runs, unfinished = _finished(suite, folder, trained_on, models_of(suite, spec), needs_weights)
    protocol = read_records(next(iter(runs.values()))["radar"][0].run.output.scores).protocol
    for score in scores:
        check_available(score, protocol)
    return _Planned(runs, series, scores, (), tuple(unfinished))


def _planned(chosen: _Planned, manifest: Manifest, on: str = "") -> _Planned:
    """Return the same with the levels that apply to each model. Raises BadInput if none applies."""
    plans, left_out = _plans(chosen.runs, chosen.series, chosen.scores, RadarSetup.of(manifest), on)
    return replace(chosen, plans=plans, left_out=(*chosen.left_out, *left_out))


def _result(suite: Suite, planned: _Planned, manifest: Manifest, on: str, board: ProgressBoard) -> Robustness:
    """Compute the result from records that are complete."""
    plans = planned.plans
    first = plans[0].first(manifest)
    shown = {plan.series.name for plan in plans}
    labels = {one.name: (one.label, one.unit) for one in planned.series if one.name in shown}
    curves = _curves(plans, planned.scores, manifest, board)
    return Robustness(
        f"{suite.name} on {printable(on)}" if on else suite.name, suite.task, len(first.events),
        len(set(first.groups.tolist())),
        tuple(_model(suite, model, of_arms) for model, of_arms in planned.runs.items()),
        tuple(_score(score, first) for score in planned.scores), labels, curves, planned.left_out,
    )  # fmt: skip


def _shards_of_archive(
    suite: Suite, archive: Path, trained_on: Manifest, place: Path, board: ProgressBoard
) -> Manifest:
    """Return all events of an archive as test events.

    Raises:
        BadInput: it is no archive, or shares an event with the data of the suite.
    """
    if (archive / NAME).is_file():
        raise BadInput("are shards", archive, "give the archive that they were written from")
    manifest = shards_of(archive, place, board)
    if shared := shared_event(manifest, trained_on):
        raise BadInput(f"shares an event with the data of the suite: {shared}", archive, "give other events")
    if note := rain_note(suite.task, manifest):
        _log.warning("polarcast: %s", note)
    return manifest


def _write(out: Path, result: Robustness) -> None:
    """Write figures, tables and numbers; `robustness.json` is there only beside the others of the same result.

    What a suite recorded of an earlier result goes with it, so that the suite does not take this one for its own.
    """
    from polarcast.hpc.bench.figures.robustness import draw_robustness

    (out / MADE_FROM).unlink(missing_ok=True)
    (out / FILE).unlink(missing_ok=True)
    figures = draw_robustness(out, result)
    for earlier in set(out.glob("robustness_*.png")) - set(figures):
        earlier.unlink()
    write_tables(out, result, figures)
    write_robustness(out, result)


def scores_of(suite: Suite, spec: RobustnessSpec) -> list[Score]:
    """Return the scores. Raises BadInput if one is unknown, or has no better direction."""
    texts = spec.scores or USUAL_SCORES[suite.task]
    check_single(texts, "robustness.scores")
    scores = [parse_score(text) for text in texts]
    for score in scores:
        metric = score.metric
        if metric.scale not in (RATIO, DIFFERENCE) or metric.direction not in ("lower", "higher"):
            what = f"{score} has its best value inside its range: the sign of a difference is no gain"
            raise BadInput(what, "robustness.scores", "choose an error or a skill score, such as rmse")
    return list(dict.fromkeys(scores))


def models_of(suite: Suite, spec: RobustnessSpec) -> list[str]:
    """Return the models. Raises BadInput if one is unknown, or lacks an arm."""
    both = [name for name in suite.models if set(ARMS) <= suite.model_by_arm(name).keys()]
    if unfit := [name for name in spec.models or () if name not in both]:
        what = "lacks an arm" if unfit[0] in suite.models else "is not in this suite"
        raise BadInput(f"{unfit[0]!r} {what}", "robustness.models", f"choose from: {', '.join(both)}")
    shown = {name for table in suite.tables.values() for name in suite.shown(table)} or set(suite.models)
    chosen = spec.models or [name for name in both if name in shown]
    if not chosen:
        raise BadInput("no model has both arms", "robustness.models", "run a suite with arms radar and dualpol")
    return list(dict.fromkeys(chosen))


def _finished(
    suite: Suite, folder: SuiteFolder, manifest: Manifest, models: Sequence[str], needs_weights: bool
) -> tuple[dict[str, dict[str, list[FinishedRun]]], list[str]]:
    """Return the runs of each model by arm, of the seeds that are scored on both, and what is missing.

    Raises:
        BadInput: no model is finished.
    """
    cells = {(cell.model, cell.arm, cell.seed): cell for cell in cells_of(suite, folder.shards)}
    found: dict[str, dict[str, list[FinishedRun]]] = {}
    missing = []
    for model in models:
        by_arm = {arm: source for arm, source in suite.model_by_arm(model).items() if arm in ARMS}
        runs = {arm: _scored(cells, (source, arm), folder, manifest, needs_weights) for arm, source in by_arm.items()}
        wanted = {arm: sum((m, a) == (source, arm) for m, a, _ in cells) for arm, source in by_arm.items()}
        if all(runs.values()):
            found[model] = runs
        if any(len(runs[arm]) < wanted[arm] for arm in ARMS):
            label = suite.models[model].label
            missing.append(f"{label}: {min(map(len, runs.values()))} of {max(wanted.values())} seeds are finished")
    if not found:
        raise BadInput("no model is trained and scored on both arms", folder.path, "finish it with: polarcast bench")
    return found, missing


def _scored(
    cells: Mapping[tuple[str, str, int], Cell],
    run: tuple[str, str],
    folder: SuiteFolder,
    manifest: Manifest,
    needs_weights: bool,
) -> list[FinishedRun]:
    runs = [FinishedRun(c, folder.cell(c, manifest)) for (m, a, _), c in cells.items() if (m, a) == run]
    return [one for one in runs if (one.run.is_trained or not needs_weights) and is_scored(one.run.output)]


def _plans(
    runs: Mapping[str, Mapping[str, Sequence[FinishedRun]]],
    series: Sequence[Series],
    scores: Sequence[Score],
    setup: RadarSetup,
    on: str = "",
) -> tuple[list[LevelPlan], list[str]]:
    """Return the levels that apply to each model, and what is left out.

    Raises:
        BadInput: none applies.
    """
    families = tuple(dict.fromkeys(score.family_name for score in scores))
    plans, left_out = list[LevelPlan](), dict[str, None]()
    for model, of_arms in runs.items():
        config = of_arms["dualpol"][0].cell.config
        for one in series:
            obstacles = [p.obstacle(config.variables(), config.data.heights_km, setup.has_site)
                         for p in one.perturbations]  # fmt: skip
            left_out |= {f"{one.label}: {why}": None for why in obstacles if why}
            kept = one.only([not why for why in obstacles])
            if any(p.active.steps for p in kept.perturbations):
                plans.append(LevelPlan(model, of_arms, kept, families, on))
    if not plans:
        raise BadInput(next(iter(left_out), "no level changes anything"), "robustness.perturbations", "give others")
    return plans, list(left_out)


def _compute(missing: Sequence[DegradedScores], manifest: Manifest, board: ProgressBoard, workers: int) -> None:
    """Compute missing records; raise the BadInput of the first that fails, after the others."""
    jobs = [_Job(job, manifest.source.location) for job in dict.fromkeys(missing)]
    if not jobs:
        return
    failures, begun = list[BadInput](), time.monotonic()
    with board.stage("robustness", "runs × levels", len(jobs)) as done:
        for number, (_, outcome) in enumerate(run_all(_run, jobs, workers, isolated=workers > 1), start=1):
            if isinstance(outcome, BadInput):
                failures.append(outcome)
            if number == workers:
                _tell((time.monotonic() - begun) * len(jobs) / number)
            done(number)
    if failures:
        raise failures[0]


def _curves(
    plans: Sequence[LevelPlan], scores: Sequence[Score], manifest: Manifest, board: ProgressBoard
) -> tuple[RobustCurve, ...]:
    curves = list[RobustCurve]()
    with board.stage("compare", "curves", len(plans) * len(scores)) as done:
        for plan in plans:
            loaded = plan.load(manifest)
            for score in scores:
                curves.append(curve_of(plan, score, loaded))
                done(len(curves))
    return tuple(curves)


def _tell(seconds: float) -> None:
    """Log the expected time, once the first records are there, if it is long."""
    if seconds > 3600 * _LONG_HOURS:
        _log.warning("polarcast: robustness takes about %.1f h; it can be stopped and resumed", seconds / 3600)


def _run(job: _Job) -> None:
    score_degraded(job.scores, _manifest(job.shards))


@lru_cache(maxsize=1)
def _manifest(shards: str) -> Manifest:
    return read_manifest(shards)


def _model(suite: Suite, model: str, runs: Mapping[str, Sequence[FinishedRun]]) -> RobustModel:
    seeds = min(map(len, runs.values()))
    first = [of_arm[0].cell for of_arm in runs.values()]
    lacks = any(cell.is_random and len(runs[arm]) == 1 for arm, cell in zip(runs, first, strict=True))
    return RobustModel(model, suite.models[model].label, seeds, lacks, tuple(first[-1].config.data.degrade))


def _score(score: Score, records: Records) -> RobustScore:
    protocol = records.protocol
    return RobustScore(str(score), score.heading(protocol), score.unit(protocol), score.metric.scale == RATIO)
