"""Analyses of the trained runs of a suite: Shapley values and robustness, each a section of the report.

Each analysis is kept in a folder of its own with a record of what it was made from, and is made again only if that
changes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json, write_json
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.cells import Cell, SuiteFolder
from polarcast.hpc.bench.checks import expected_protocol
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.layout import TableLayout
from polarcast.hpc.bench.robustness.result import MADE_FROM
from polarcast.hpc.bench.robustness.spec import RobustnessSpec
from polarcast.hpc.bench.suite import ExplainPlan, Suite
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.scores.query import check_available, parse_score
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.models.registry import get_model

if TYPE_CHECKING:
    from polarcast.hpc.bench.report import Picture, Section

RECORD = MADE_FROM
EXPLAIN, ROBUSTNESS = "explain", "robustness"
DUALPOL = "dualpol"


@dataclass(frozen=True)
class _Explained:
    """Shapley values to compute: of one model and imputation, from the runs of all its seeds."""

    model: str
    arm: str
    imputation: str
    folder: Path
    runs: tuple[Path, ...]
    plan: ExplainPlan

    @property
    def made_from(self) -> dict[str, Any]:
        """What the values follow from; the name of a run folder holds the digests of its configuration and data."""
        settings = {k: v for k, v in asdict(_spec_of(self.plan, self.imputation)).items() if k != "may_be_long"}
        return {"runs": [run.name for run in self.runs], **settings, "scores": list(self.plan.scores)}

    @property
    def is_made(self) -> bool:
        """Whether the values are there, from the same runs and settings, and can be read."""
        from polarcast.hpc.evaluation.shapley.result import read_explanation

        return _is_made(self.folder, self.made_from, read_explanation)


def run_analyses(
    suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest, workers: int, board: ProgressBoard
) -> None:
    """Make the analyses of a suite whose cells are complete; those that are there already are not made again.

    Raises:
        BadInput: the model to explain has no such players, or a score or perturbation does not apply.
    """
    for one in _explained(suite, folder, cells, manifest):
        if not one.is_made:
            _explain(one, board)
            write_json(one.folder / RECORD, one.made_from)
    if suite.robustness and not _is_robustness_made(suite, folder, cells, manifest):
        from polarcast.hpc.bench.robustness.run import robustness_of

        robustness_of(suite, folder, suite.robustness, board, workers)
        write_json(folder.path / ROBUSTNESS / RECORD, robustness_made_from(suite, folder, cells, manifest))


def sections_of(suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest) -> "list[Section]":
    """Return the analyses of a suite that are made, from the same runs and settings; others are left out."""
    explained = _explained(suite, folder, cells, manifest)
    sections = [_explain_section(suite, one) for one in explained if one.is_made]
    if suite.robustness and _is_robustness_made(suite, folder, cells, manifest):
        sections.append(_robustness_section(folder.path / ROBUSTNESS))
    return sections


def check_plans(suite: Suite, path: Path, cells: Sequence[Cell]) -> None:
    """Check the models, arms, players and scores of the analyses of a suite, before anything is trained.

    Raises:
        BadInput: a list is empty, an arm is not one of the model, the model has no such players, or a score or
            perturbation is unknown or does not apply.
    """
    if suite.explain:
        _check_explain(suite, suite.explain, f"{path}, {EXPLAIN}", cells)
    if suite.robustness:
        from polarcast.hpc.bench.robustness.run import models_of, scores_of
        from polarcast.hpc.bench.robustness.spec import series_of

        where = f"{path}, {ROBUSTNESS}"
        with _located(path):
            chosen = models_of(suite, suite.robustness)
        for model in chosen:
            _available(suite, _config_of(suite, cells, model, DUALPOL), suite.robustness.scores, f"{where}.scores")
        with _located(path):
            scores_of(suite, suite.robustness)
        series_of(suite.robustness.perturbations, f"{where}.perturbations")


def _check_explain(suite: Suite, plan: ExplainPlan, where: str, cells: Sequence[Cell]) -> None:
    from polarcast.hpc.evaluation.shapley.explain import players_in

    for name in ("models", "scores", "imputations"):
        if not getattr(plan, name):
            raise BadInput("is empty", f"{where}.{name}", "give at least one, or remove explain")
    for model in plan.models:
        if plan.arm not in (known := suite.model_by_arm(model)):
            raise BadInput(f"{model} has no arm {plan.arm!r}", f"{where}.arm", f"choose from: {', '.join(known)}")
        config = _config_of(suite, cells, model, plan.arm)
        if get_model(config.model["name"]).sees_truth:
            raise BadInput(f"{model} reads the observed rain, not radar", f"{where}.models", "explain another model")
        _available(suite, config, plan.scores, f"{where}.scores")
        with _located(where, "."):
            for imputation in plan.imputations:
                players_in(config, _spec_of(plan, imputation))


def _config_of(suite: Suite, cells: Sequence[Cell], model: str, arm: str) -> RunConfig:
    source = suite.model_by_arm(model)[arm]
    return next(cell.config for cell in cells if (cell.model, cell.arm) == (source, arm))


def _available(suite: Suite, config: RunConfig, scores: Sequence[str], where: str) -> None:
    """Raise BadInput if a score is unknown, or records of such a run will not contain it."""
    is_synthetic = suite.data.is_synthetic
    known = {"shape": (suite.data.synth.size,) * 2} if is_synthetic else {}
    protocol = expected_protocol(config, **known)
    for text in scores:
        try:
            check_available(parse_score(text), protocol, () if is_synthetic else ("lead_time",))
        except BadInput as error:
            raise error.at(where) from None


@contextmanager
def _located(where: object, joint: str = ", ") -> Iterator[None]:
    """Name the place of wrong settings as in the suite's file: `--windows` of the command line is `windows` there."""
    try:
        yield
    except BadInput as error:
        raise error.at(f"{where}{joint}{error.where.removeprefix('--')}") from None


def _explained(suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest) -> Iterator[_Explained]:
    plan = suite.explain
    for model, imputation in product(plan.models, plan.imputations) if plan else ():
        assert plan is not None
        source = suite.model_by_arm(model)[plan.arm]
        runs = tuple(folder.cell(cell, manifest).path for cell in cells if (cell.model, cell.arm) == (source, plan.arm))
        if runs:
            out = folder.path / EXPLAIN / f"{model}-{plan.arm}-{imputation}"
            yield _Explained(model, plan.arm, imputation, out, runs, plan)


def _explain(one: _Explained, board: ProgressBoard) -> None:
    from polarcast.hpc.bench.figures.shapley import draw_explanation
    from polarcast.hpc.evaluation.shapley.explain import explain_into
    from polarcast.hpc.runs.folder import RunFolder

    (one.folder / RECORD).unlink(missing_ok=True)
    explanation, folder = explain_into(
        [RunFolder(run) for run in one.runs], _spec_of(one.plan, one.imputation), board, one.folder
    )
    draw_explanation(folder, explanation)


def _spec_of(plan: ExplainPlan, imputation: str) -> Any:
    """Return the settings of an explanation. Raises BadInput if one is out of range."""
    from polarcast.hpc.evaluation.shapley.explain import ExplainSpec

    return ExplainSpec(
        plan.players or None, tuple(plan.scores), plan.windows, plan.background, imputation, members=plan.members
    )


def robustness_made_from(
    suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest
) -> dict[str, Any]:
    """Return what the robustness analysis of a suite follows from."""
    plan = suite.robustness or RobustnessSpec()
    runs = sorted(folder.cell(cell, manifest).path.name for cell in cells)
    return {"runs": runs, **asdict(plan), "models": plan.models or sorted(suite.models)}


def _is_robustness_made(suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest) -> bool:
    from polarcast.hpc.bench.robustness.result import read_robustness

    return _is_made(folder.path / ROBUSTNESS, robustness_made_from(suite, folder, cells, manifest), read_robustness)


def _is_made(folder: Path, made_from: Mapping[str, Any], read: Callable[[Path], object]) -> bool:
    if read_json(folder / RECORD) != dict(made_from):
        return False
    try:
        read(folder)
    except BadInput:
        return False
    return True


def _explain_section(suite: Suite, one: _Explained) -> "Section":
    from polarcast.hpc.bench.figures.shapley import caption_of
    from polarcast.hpc.bench.report import Section
    from polarcast.hpc.evaluation.shapley.render import caption, lines_of
    from polarcast.hpc.evaluation.shapley.result import read_explanation

    found = read_explanation(one.folder)
    head, lines = lines_of(found)
    title = f"Shapley values of {suite.models[one.model].label}, {ARM_NAMES[one.arm]}, {one.imputation} imputation"
    pictures = _pictures(one.folder.glob("shapley_*.png"), caption_of)
    return Section(
        f"{EXPLAIN}-{one.model}-{one.imputation}", title, TableLayout(head, lines, 2), [f"{caption(found)}."], pictures
    )


def _robustness_section(folder: Path) -> "Section":
    from polarcast.hpc.bench.report import Section
    from polarcast.hpc.bench.robustness.render import HEAD, lines_of, notes_of
    from polarcast.hpc.bench.robustness.result import read_robustness

    result = read_robustness(folder)
    title = "Robustness: scores and gain under perturbed input"
    pictures = _pictures(folder.glob("robustness_*.png"), lambda _: title)
    return Section(ROBUSTNESS, title, TableLayout([*HEAD], lines_of(result), 3), notes_of(result), pictures)


def _pictures(files: Iterable[Path], caption: Any) -> "list[Picture]":
    from polarcast.hpc.bench.report import Picture

    return [Picture(file, caption(file)) for file in sorted(files)]
