"""Analyses of the trained runs of a suite: Shapley values and robustness, each a section of the report.

Each analysis is kept in a folder of its own with a record of what it was made from, and is made again only if that
changes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json, write_json
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.cells import Cell, SuiteFolder
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.layout import TableLayout
from polarcast.hpc.bench.robustness.spec import RobustnessSpec
from polarcast.hpc.bench.suite import ExplainPlan, Suite
from polarcast.hpc.utils.progress import ProgressBoard

if TYPE_CHECKING:
    from polarcast.hpc.bench.report import Picture, Section

RECORD = "made_from.json"
EXPLAIN, ROBUSTNESS = "explain", "robustness"


@dataclass(frozen=True)
class _Explained:
    """Shapley values to compute: of one model, from the runs of all its seeds."""

    model: str
    arm: str
    folder: Path
    runs: tuple[Path, ...]
    plan: ExplainPlan

    @property
    def made_from(self) -> dict[str, Any]:
        """What the values follow from; the name of a run folder holds the digests of its configuration and data."""
        settings = {name: value for name, value in asdict(self.plan).items() if name != "models"}
        return {"runs": [run.name for run in self.runs], **settings}


def run_analyses(
    suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest, workers: int, board: ProgressBoard
) -> None:
    """Make the analyses of a suite whose cells are complete; those that are there already are not made again.

    Raises:
        BadInput: the model to explain has no such players, or a score or perturbation does not apply.
    """
    for one in _explained(suite, folder, cells, manifest):
        if not _is_made(one.folder, one.made_from):
            _explain(one, board)
            write_json(one.folder / RECORD, one.made_from)
    if suite.robustness and not _is_made(folder.path / ROBUSTNESS, _robustness_from(suite, folder, cells, manifest)):
        from polarcast.hpc.bench.robustness.run import robustness_of

        robustness_of(suite, folder, suite.robustness, board, workers)
        write_json(folder.path / ROBUSTNESS / RECORD, _robustness_from(suite, folder, cells, manifest))


def sections_of(suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest) -> "list[Section]":
    """Return the analyses of a suite that are made, from the same runs and settings; others are left out."""
    explained = _explained(suite, folder, cells, manifest)
    sections = [_explain_section(suite, one) for one in explained if _is_made(one.folder, one.made_from)]
    path = folder.path / ROBUSTNESS
    if suite.robustness and _is_made(path, _robustness_from(suite, folder, cells, manifest)):
        sections.append(_robustness_section(path))
    return sections


def check_plans(suite: Suite, path: Path) -> None:
    """Check the models, arms and scores of the analyses of a suite.

    Raises:
        BadInput: a list is empty, an arm is not one of the model, or a score or perturbation is unknown.
    """
    if suite.explain:
        _check_explain(suite, suite.explain, f"{path}, {EXPLAIN}")
    if suite.robustness:
        from polarcast.hpc.bench.robustness.spec import series_of
        from polarcast.hpc.scores.query import check_single

        where = f"{path}, {ROBUSTNESS}"
        check_single(suite.robustness.scores, f"{where}.scores")
        series_of(suite.robustness.perturbations, f"{where}.perturbations")


def _check_explain(suite: Suite, plan: ExplainPlan, where: str) -> None:
    from polarcast.hpc.scores.query import parse_score

    for name in ("models", "scores"):
        if not getattr(plan, name):
            raise BadInput("is empty", f"{where}.{name}", "give at least one, or remove explain")
    for model in plan.models:
        if plan.arm not in (known := suite.model_by_arm(model)):
            raise BadInput(f"{model} has no arm {plan.arm!r}", f"{where}.arm", f"choose from: {', '.join(known)}")
    for text in plan.scores:
        try:
            parse_score(text)
        except BadInput as error:
            raise error.at(f"{where}.scores") from None
    _spec_of(plan)


def _explained(suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest) -> Iterator[_Explained]:
    plan = suite.explain
    for model in plan.models if plan else ():
        assert plan is not None
        source = suite.model_by_arm(model)[plan.arm]
        runs = tuple(folder.cell(cell, manifest).path for cell in cells if (cell.model, cell.arm) == (source, plan.arm))
        if runs:
            yield _Explained(model, plan.arm, folder.path / EXPLAIN / f"{model}-{plan.arm}", runs, plan)


def _explain(one: _Explained, board: ProgressBoard) -> None:
    from polarcast.hpc.bench.figures.shapley import draw_explanation
    from polarcast.hpc.evaluation.shapley.explain import explain_into
    from polarcast.hpc.runs.folder import RunFolder

    (one.folder / RECORD).unlink(missing_ok=True)
    explanation, folder = explain_into([RunFolder(run) for run in one.runs], _spec_of(one.plan), board, one.folder)
    draw_explanation(folder, explanation)


def _spec_of(plan: ExplainPlan) -> Any:
    """Return the settings of an explanation. Raises BadInput if one is out of range."""
    from polarcast.hpc.evaluation.shapley.explain import ExplainSpec

    return ExplainSpec(plan.players or None, tuple(plan.scores), plan.windows, plan.background, plan.imputation)


def _robustness_from(suite: Suite, folder: SuiteFolder, cells: Sequence[Cell], manifest: Manifest) -> dict[str, Any]:
    plan = suite.robustness or RobustnessSpec()
    runs = sorted(folder.cell(cell, manifest).path.name for cell in cells)
    return {"runs": runs, **asdict(plan), "models": plan.models or sorted(suite.models)}


def _is_made(folder: Path, made_from: Mapping[str, Any]) -> bool:
    return read_json(folder / RECORD) == dict(made_from)


def _explain_section(suite: Suite, one: _Explained) -> "Section":
    from polarcast.hpc.bench.figures.shapley import caption_of
    from polarcast.hpc.bench.report import Section
    from polarcast.hpc.evaluation.shapley.render import caption, lines_of
    from polarcast.hpc.evaluation.shapley.result import read_explanation

    found = read_explanation(one.folder)
    head, lines = lines_of(found)
    title = f"Shapley values of {suite.models[one.model].label}, {ARM_NAMES[one.arm]}"
    pictures = _pictures(one.folder.glob("shapley_*.png"), caption_of)
    return Section(f"{EXPLAIN}-{one.model}", title, TableLayout(head, lines, 2), [f"{caption(found)}."], pictures)


def _robustness_section(folder: Path) -> "Section":
    from polarcast.hpc.bench.report import Section
    from polarcast.hpc.bench.robustness.render import HEAD, lines_of, notes_of
    from polarcast.hpc.bench.robustness.result import read_robustness

    result = read_robustness(folder)
    title = "Robustness: scores and gain under perturbed input"
    pictures = _pictures(folder.glob("robustness_*.png"), partial(_caption, title))
    return Section(ROBUSTNESS, title, TableLayout([*HEAD], lines_of(result), 3), notes_of(result), pictures)


def _caption(title: str, _: Path) -> str:
    return title


def _pictures(files: Iterable[Path], caption: Any) -> "list[Picture]":
    from polarcast.hpc.bench.report import Picture

    return [Picture(file, caption(file)) for file in sorted(files)]
