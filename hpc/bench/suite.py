"""Suite files (YAML): data, models with their arms and seeds, and tables."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from polarcast.data.errors import BadInput
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.data.names import checked_name
from polarcast.hpc.bench.data import DataSpec, check_sources
from polarcast.hpc.bench.robustness.spec import RobustnessSpec
from polarcast.hpc.config.load import read_start
from polarcast.hpc.config.stored import read_stored
from polarcast.hpc.scores.query import ALL, parse_score
from polarcast.hpc.scores.stats.aggregation import AGGREGATIONS
from polarcast.hpc.utils import sources
from polarcast.hpc.utils.text import printable

SUITES = sources.SUITES
_LAST_SEED = 2**32 - 1
_NOT_SET_BY_MODELS = {
    "task": "set task of the suite",
    "arm": "set arms",
    "seed": "set seeds",
    "base": "set base of the model, next to set",
    "data.shards": "set data of the suite",
}
"""Keys that the suite gives every run, and where to set them."""


@dataclass
class ModelSpec:
    """A model of a suite and its configuration."""

    label: str = MISSING
    """Name in tables."""
    preset: str = "demo"
    """Preset the run starts from."""
    set: dict[str, Any] = field(default_factory=dict)
    """Values that replace the preset's, nested as in a preset."""
    base: Any = None
    """Model of this suite that it builds on, or a list of several."""
    start_from: str | None = None
    """Model of this suite whose run of the same arm and seed training starts from."""
    arms: list[str] | None = None
    """Arms to run; by default the suite's arms."""
    seeds: list[int] | None = None
    """Seeds to run; by default the suite's seeds. A model without randomness uses only the first."""
    radar_of: str | None = None
    """Model of this suite whose radar arm tables show for this model, which then has none of its own."""
    synthetic_only: bool = False
    """Whether the model is meaningful on synthetic archives only; it is left out on others."""

    @property
    def bases(self) -> list[str]:
        """Models of this suite that it builds on."""
        return list(self.base) if isinstance(self.base, list) else [self.base] if self.base else []

    @property
    def needs(self) -> list[str]:
        """Models of this suite whose runs this one needs: its bases, and the one it starts from."""
        return [*self.bases, *([self.start_from] if self.start_from else [])]


@dataclass
class TableSpec:
    """Models, scores and layout of a table."""

    title: str = MISSING
    """Heading."""
    models: list[str] | None = None
    """Models shown, by name; by default all that no other model builds on."""
    metrics: list[str] = field(default_factory=lambda: ["rmse", "ne", "nb", "cc"])
    """Scores, such as rmse, csi@threshold=10, hk@threshold=10,window=*."""
    aggregation: str = "pooled"
    """`pooled`: scores of the sums over all events; `mean`: mean of the events' scores."""
    arms: list[str] | None = None
    """Arms shown; by default all."""
    rows: list[str] = field(default_factory=lambda: ["model", "metric"])
    """Dimensions along the rows: model, metric, arm, or an axis of the scores, such as class or lead_time."""
    columns: list[str] = field(default_factory=lambda: ["arm"])
    """Dimensions along the columns."""
    versus: Any = None
    """Model that every model and arm shown is compared with, such as fitted, or {model: unet, arm: radar}; without an
    arm, the same arm of that model, or its first if it lacks it."""
    differences: bool = False
    """Whether errors are compared as differences, as in the source paper's table 8.3, instead of as ratios."""
    only_comparisons: bool = False
    """Whether to show the comparisons only, without the scores that they compare."""


@dataclass(frozen=True)
class Versus:
    """Reference that a table compares its models and arms with; without an arm, with the same arm of that model."""

    model: str
    arm: str = ""


@dataclass
class ExplainPlan:
    """Shapley values that a suite computes from its trained runs; see `polarcast explain`."""

    models: list[str] = MISSING
    """Models explained, by name; of each, all seeds together."""
    arm: str = "dualpol"
    """Arm of the runs."""
    scores: list[str] = MISSING
    """Scores whose values are divided among the players."""
    players: str = ""
    """Players, such as channels or variables*times=2; by default those of the task."""
    imputations: list[str] = field(default_factory=lambda: ["marginal"])
    """Donors of absent players: `marginal`, `conditional`, or both one after the other."""
    windows: int = 64
    """Windows explained."""
    background: int = 8
    """Donors of each window."""
    members: int | None = None
    """Ensemble size; by default that of the evaluation."""


@dataclass
class Suite:
    """A suite: the data, runs and tables of `polarcast bench`."""

    name: str = MISSING
    """Name of the suite and of its folder."""
    task: str = "qpe"
    """Task of all runs."""
    arms: list[str] = field(default_factory=lambda: ["radar", "dualpol"])
    """Arms of every model."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds of every trained model."""
    data: DataSpec = field(default_factory=DataSpec)
    """Data of all runs."""
    models: dict[str, ModelSpec] = field(default_factory=dict)
    """Models by short name."""
    tables: dict[str, TableSpec] = field(default_factory=dict)
    """Tables by name."""
    verdict: list[str] | None = None
    """Tables that the verdict sums up, by name; by default all."""
    explain: ExplainPlan | None = None
    """Shapley values to compute after training."""
    robustness: RobustnessSpec | None = None
    """Perturbed inputs to score after training."""

    def arms_of(self, model: str) -> list[str]:
        """Return the arms a model is run on."""
        spec = self.models[model]
        return [arm for arm in spec.arms or self.arms if arm != "radar" or not spec.radar_of]

    def model_by_arm(self, model: str) -> dict[str, str]:
        """Return, by arm, the model whose run tables show."""
        other = self.models[model].radar_of
        return ({"radar": other} if other else {}) | dict.fromkeys(self.arms_of(model), model)

    def seeds_of(self, model: str) -> list[int]:
        """Return the seeds a model is run with."""
        return self.models[model].seeds or self.seeds

    def shown(self, table: TableSpec) -> list[str]:
        """Return the models a table shows."""
        bases = {base for spec in self.models.values() for base in spec.bases}
        return table.models or [name for name in self.models if name not in bases]


def versus_of(table: TableSpec) -> Versus | None:
    """Return the reference of a table. Raises BadInput if it is neither a model nor {model, arm}."""
    given = {"model": table.versus} if isinstance(table.versus, str) else table.versus
    if given is None:
        return None
    is_fit = isinstance(given, dict) and {"model"} <= given.keys() <= {"model", "arm"}
    if not is_fit or not all(isinstance(name, str) and name for name in given.values()):
        raise BadInput(f"{table.versus!r} is not a reference", "versus", "give a model, or {model: unet, arm: radar}")
    return Versus(**given)


def load_suite(source: str, is_stored: bool = False) -> Suite:
    """Read a suite by name or file.

    Args:
        source: Name of a built-in suite, or path of a YAML file.
        is_stored: Whether the file is that of a finished suite, which others may have made: nothing in it is
            interpolated.

    Raises:
        BadInput: no such suite, an unknown key, metric or model, a name that can't be that of a file, an empty list, or
            a value of the wrong type.
    """
    path = sources.yaml_source(source, SUITES, "suite")
    try:
        content = read_stored(path) if is_stored else OmegaConf.load(path)
        merged = OmegaConf.merge(OmegaConf.structured(Suite(name=path.stem)), content)
        suite = _with_plain_texts(OmegaConf.to_object(merged))  # type: ignore[arg-type]
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, TypeError, RecursionError) as error:
        raise sources.wrong_content(error, path, "compare the file with a built-in suite") from None
    if not is_stored and path.name != SUITE_FILE:  # the file that bench writes has all keys
        check_sources(content, path)
    for name, table in suite.tables.items():
        try:
            check_table(table)
        except BadInput as error:
            raise error.at(f"{path}, tables.{name}, {error.where}") from None
    _check_references(suite, path)
    _check_suite(suite, path)
    if not is_stored:
        _check_settings(suite, path)
    return _with_starts(suite, path)


def _with_plain_texts(suite: Suite) -> Suite:
    """Return the suite with titles and labels of one line, without control characters."""
    for table in suite.tables.values():
        table.title = printable(" ".join(table.title.split()))
    for spec in suite.models.values():
        spec.label = printable(" ".join(spec.label.split()))
    return suite


def _check_references(suite: Suite, path: Path) -> None:
    for name, spec in suite.models.items():
        _check_bases(spec, f"{path}, models.{name}.base")
    named = [m for table in suite.tables.values() for m in table.models or []]
    named += [other for spec in suite.models.values() for other in (*spec.needs, spec.radar_of) if other]
    named += [versus.model for table in suite.tables.values() if (versus := versus_of(table))]
    named += [m for plan in (suite.explain, suite.robustness) if plan for m in plan.models or ()]
    if unknown := [m for m in named if m not in suite.models]:
        raise BadInput(f"unknown model {unknown[0]!r}", path, f"choose from: {', '.join(suite.models)}")
    for where, given in _lists_of_names(suite).items():
        known = suite.tables if where == "verdict" else suite.models
        _check_list(given, f"{path}, {where}", f"[{next(iter(known), '')}]")
    if unknown := [name for name in suite.verdict or () if name not in suite.tables]:
        raise BadInput(f"unknown table {unknown[0]!r}", f"{path}, verdict", f"choose from: {', '.join(suite.tables)}")
    for name, spec in suite.models.items():
        if spec.radar_of and "radar" not in suite.arms_of(spec.radar_of):
            raise BadInput(f"{name} shows the radar arm of {spec.radar_of}, which has none", path, "add it")


def _lists_of_names(suite: Suite) -> dict[str, list[str]]:
    """Return the tables of the verdict and the models of the analyses, where they are given, by their key."""
    given = {
        "verdict": suite.verdict,
        "explain.models": suite.explain.models if suite.explain else None,
        "robustness.models": suite.robustness.models if suite.robustness else None,
    }
    return {key: names for key, names in given.items() if names is not None}


def _check_bases(spec: ModelSpec, where: str) -> None:
    """Raise BadInput if the base is neither a name nor a list of different names."""
    if isinstance(spec.base, list):
        _check_list(spec.base, where, "[unet, wf_unet]")
    if odd := [base for base in spec.bases if not isinstance(base, str)]:
        raise BadInput(f"{odd[0]!r} is not a model", where, "give a model, or a list such as [unet, wf_unet]")


def check_names(names: Iterable[str], where: object) -> None:
    """Check names that become files of one folder. Raises BadInput if one is unsafe, or two fold to one path."""
    known: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", checked_name(name, where)).casefold()
        if folded in known:
            fix = "choose names that differ in more than the case of letters"
            raise BadInput(f"{known[folded]!r} and {name!r} are one file on some file systems", where, fix)
        known[folded] = name


def _check_suite(suite: Suite, path: Path) -> None:
    """Check the names, models and seeds of a suite, and that each table shows an arm of each of its models.

    Raises:
        BadInput: a list is empty, a value appears twice or is out of range, or a name can't be that of a file.
    """
    checked_name(suite.name, f"{path}, name")
    check_names(suite.models, f"{path}, models")
    check_names(suite.tables, f"{path}, tables")
    if not suite.models:
        raise BadInput("no models", f"{path}, models", "add for example unet: {label: U-Net}")
    _check_list(suite.arms, f"{path}, arms", "[radar, dualpol]")
    _check_seeds(suite.seeds, f"{path}, seeds")
    for name, spec in suite.models.items():
        if spec.arms is not None:
            _check_list(spec.arms, f"{path}, models.{name}.arms", "[radar, dualpol]")
        if spec.seeds is not None:
            _check_seeds(spec.seeds, f"{path}, models.{name}.seeds")
    for name, table in suite.tables.items():
        _check_arms(suite, table, f"{path}, tables.{name}")


def _check_settings(suite: Suite, path: Path) -> None:
    """Raise BadInput if a model sets what the suite sets for every run."""
    for name, spec in suite.models.items():
        data = spec.set.get("data")
        given = {*spec.set, *(f"data.{key}" for key in (data if isinstance(data, dict) else ()))}
        if taken := [key for key in _NOT_SET_BY_MODELS if key in given]:
            where = f"{path}, models.{name}.set"
            raise BadInput(f"{taken[0]} is set by the suite", where, f"remove it; {_NOT_SET_BY_MODELS[taken[0]]}")
        if spec.start_from and start_of(spec):
            where = f"{path}, models.{name}"
            raise BadInput("start_from and set.train.start_from exclude each other", where, "remove one")


def start_of(spec: ModelSpec) -> Any:
    """Return what a model sets as `train.start_from`: a folder or the stored content of a run, or None."""
    train = spec.set.get("train")
    return train.get("start_from") if isinstance(train, dict) else None


def _with_starts(suite: Suite, path: Path) -> Suite:
    """Replace the folders of runs that models start from by what is stored of them: the suite may be read elsewhere."""
    for name, spec in suite.models.items():
        if isinstance(folder := start_of(spec), str):
            try:
                start = read_start(folder)
            except BadInput as error:
                raise error.at(f"{path}, models.{name}: {error.where}") from None
            spec.set["train"]["start_from"] = start and asdict(start)
    return suite


def _check_list(values: Sequence[object], where: str, example: str) -> None:
    if not values:
        raise BadInput("is empty", where, f"give for example {example}, or remove it")
    if twice := [value for value in values if list(values).count(value) > 1]:
        raise BadInput(f"{twice[0]!r} appears twice", where, "give each once")


def _check_seeds(seeds: Sequence[int], where: str) -> None:
    _check_list(seeds, where, "[0, 1, 2]")
    if unfit := [seed for seed in seeds if not 0 <= seed <= _LAST_SEED]:
        raise BadInput(f"{unfit[0]} is not a seed", where, f"give 0 to {_LAST_SEED}")


def _check_arms(suite: Suite, table: TableSpec, where: str) -> None:
    chosen = table.arms or suite.arms
    for model in suite.shown(table):
        if not set(chosen) & set(known := suite.model_by_arm(model)):
            raise BadInput(
                f"{model} has none of the arms {', '.join(chosen)}", where, f"choose from: {', '.join(known)}"
            )
    versus = versus_of(table)
    if versus and versus.arm and versus.arm not in (known := suite.model_by_arm(versus.model)):
        choices = f"choose from: {', '.join(known)}"
        raise BadInput(f"{versus.model} has no arm {versus.arm!r}", f"{where}, versus", choices)


def check_table(table: TableSpec) -> None:
    """Check the scores, aggregation and layout of a table.

    Raises:
        BadInput: a score, aggregation or dimension is unknown, or a dimension is missing or repeated.
    """
    for name, given in (("metrics", table.metrics), ("rows", table.rows), ("columns", table.columns)):
        if not given:
            raise BadInput("is empty", name, "remove it for the default")
    for name, some in (("models", table.models), ("arms", table.arms)):
        if some is not None and not some:
            raise BadInput("is empty", name, "remove it to show all")
    versus_of(table)
    scores = [parse_score(text) for text in table.metrics]
    shown = [*table.rows, *table.columns]
    known = {"model", "metric", "arm", *(axis for score in scores for axis in score.at)}
    if unknown := [d for d in shown if d not in known]:
        raise BadInput(f"unknown dimension {unknown[0]!r}", "rows, columns", f"choose from: {', '.join(sorted(known))}")
    if len(set(shown)) < len(shown) or not {"model", "arm"} <= set(shown):
        raise BadInput("model and arm must each appear once", "rows, columns", "set rows: [model], columns: [arm]")
    apart = {(score.name, *(v for axis, v in score.at.items() if axis not in shown)) for score in scores}
    if "metric" not in shown and (len(apart) > 1 or any(ALL in key for key in apart)):
        raise BadInput("the table has several scores, but no metric", "rows, columns", "add metric to rows")
    if table.aggregation not in AGGREGATIONS:
        raise BadInput(f"unknown aggregation {table.aggregation!r}", "aggregation", f"use {' or '.join(AGGREGATIONS)}")


def without_synthetic_rows(suite: Suite) -> Suite:
    """Return the suite for real data, without the models that are meaningful on synthetic storms only.

    Raises:
        BadInput: no model is left, or one that is left depends on one that is not.
    """
    kept = {name: spec for name, spec in suite.models.items() if not spec.synthetic_only}
    if not kept:
        raise BadInput("all models are for synthetic data only", suite.name, "remove synthetic_only from one")
    for name, spec in kept.items():
        if lost := [other for other in (*spec.needs, spec.radar_of) if other and other not in kept]:
            raise BadInput(f"{name} needs {lost[0]}, which is for synthetic data only", suite.name, "change one")
    named = {name: table.models and [m for m in table.models if m in kept] for name, table in suite.tables.items()}
    tables = {n: replace(table, models=named[n]) for n, table in suite.tables.items() if named[n] != []}
    return part_of(suite, kept, {n: without_lost_reference(t, kept) for n, t in tables.items()})


def part_of(suite: Suite, models: Collection[str], tables: dict[str, TableSpec]) -> Suite:
    """Return the suite with some of its models, with tables that show them only, and with analyses of them only."""
    explain, robustness = (_plan_of(plan, models) for plan in (suite.explain, suite.robustness))
    kept = {name: spec for name, spec in suite.models.items() if name in models}
    return replace(suite, models=kept, tables=tables, explain=explain, robustness=robustness)


def _plan_of(plan: Any, models: Collection[str]) -> Any:
    """Return the plan of an analysis for the models that are left; None if it names others only."""
    if plan is None or plan.models is None:
        return plan
    left = [model for model in plan.models if model in models]
    return replace(plan, models=left) if left else None


def without_lost_reference(table: TableSpec, models: Collection[str]) -> TableSpec:
    """Return the table without its reference if that is not among the models that are left."""
    versus = versus_of(table)
    return table if versus is None or versus.model in models else replace(table, versus=None)
