"""A suite (YAML): which data, which models on which arms and seeds, which tables."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.data import DataSpec
from polarcast.hpc.scores.query import ALL, parse_score
from polarcast.hpc.scores.stats.paired import AGGREGATIONS

SUITES = Path(__file__).with_name("suites")


@dataclass
class ModelSpec:
    """A model, and how it is configured."""

    label: str = MISSING
    """Name in tables."""
    preset: str = "demo"
    """Preset that the run starts from."""
    set: dict[str, Any] = field(default_factory=dict)
    """Values that replace the preset's, nested as in a preset."""
    base: str | None = None
    """The model of this suite that it builds on."""
    arms: list[str] | None = None
    """Arms it is run on, all of the suite's by default."""
    seeds: list[int] | None = None
    """Seeds it is run with, all of the suite's by default; a model that learns nothing by chance takes the first."""
    radar_of: str | None = None
    """The model of this suite whose radar arm stands beside it in tables, in place of one of its own."""
    synthetic_only: bool = False
    """Whether it means something on synthetic archives only, and is left out on others."""


@dataclass
class TableSpec:
    """A table: models × arms, and what is shown of them."""

    title: str = MISSING
    """Its heading."""
    models: list[str] | None = None
    """Models shown, by name; all that no other builds on by default."""
    metrics: list[str] = field(default_factory=lambda: ["rmse", "ne", "nb", "cc"])
    """Scores, such as rmse, csi@threshold=10, hk@threshold=10,window=*"""
    aggregation: str = "pooled"
    """pooled: scores of all events' sums; mean: means of the events' scores."""
    arms: list[str] | None = None
    """Arms shown, all by default."""
    rows: list[str] = field(default_factory=lambda: ["model", "metric"])
    """What rows go by: model, metric, arm, or an axis of the scores, such as class or lead_time."""
    columns: list[str] = field(default_factory=lambda: ["arm"])
    """What columns go by."""


@dataclass
class Suite:
    """Everything `polarcast bench` runs."""

    name: str = MISSING
    """Name of the suite and of its folder."""
    task: str = "qpe"
    """Task of all its runs."""
    arms: list[str] = field(default_factory=lambda: ["radar", "dualpol"])
    """Arms of every model."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds of every trained model."""
    data: DataSpec = field(default_factory=DataSpec)
    """The data of all runs."""
    models: dict[str, ModelSpec] = field(default_factory=dict)
    """Models by short name."""
    tables: dict[str, TableSpec] = field(default_factory=dict)
    """Tables by name."""

    def arms_of(self, model: str) -> list[str]:
        """The arms a model is run on."""
        spec = self.models[model]
        return [arm for arm in spec.arms or self.arms if arm != "radar" or not spec.radar_of]

    def beside(self, model: str) -> dict[str, str]:
        """Arm → the model whose run is shown for it."""
        other = self.models[model].radar_of
        return ({"radar": other} if other else {}) | dict.fromkeys(self.arms_of(model), model)

    def seeds_of(self, model: str) -> list[int]:
        """The seeds a model is run with."""
        return self.models[model].seeds or self.seeds

    def shown(self, table: TableSpec) -> list[str]:
        """The models of a table."""
        bases = {spec.base for spec in self.models.values()}
        return table.models or [name for name in self.models if name not in bases]


def load_suite(source: str) -> Suite:
    """Read a suite by name or file.

    Raises:
        BadInput: no such suite, an unknown key, metric or model, or a value of the wrong type.
    """
    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else SUITES / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in SUITES.glob("*.yaml")))
        raise BadInput("no such suite", source, f"there are: {names}; or give a YAML file")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Suite(name=path.stem)), OmegaConf.load(path))
        suite: Suite = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        raise BadInput(str(error).splitlines()[0], path, "see the suites that come with polarcast") from None
    for name, table in suite.tables.items():
        try:
            check_table(table)
        except BadInput as error:
            raise BadInput(error.what, f"{path}, {name}", error.fix) from None
    named = [m for table in suite.tables.values() for m in table.models or []]
    named += [other for spec in suite.models.values() for other in (spec.base, spec.radar_of) if other]
    if unknown := [m for m in named if m not in suite.models]:
        raise BadInput(f"unknown model {unknown[0]!r}", path, f"its models are: {', '.join(suite.models)}")
    for name, spec in suite.models.items():
        if spec.radar_of and "radar" not in suite.arms_of(spec.radar_of):
            raise BadInput(f"{spec.radar_of} has no radar arm to stand beside {name}", path, "give it one")
        if spec.radar_of and suite.seeds_of(spec.radar_of)[: len(own := suite.seeds_of(name))] != own:
            raise BadInput(f"{spec.radar_of} is not run with the seeds of {name}", path, "give it those first")
    return suite


def check_table(table: TableSpec) -> None:
    """Raises BadInput for an unknown score, aggregation or dimension, or one that is shown nowhere or twice."""
    scores = [parse_score(text) for text in table.metrics]
    shown = [*table.rows, *table.columns]
    known = {"model", "metric", "arm", *(axis for score in scores for axis in score.at)}
    if unknown := [d for d in shown if d not in known]:
        raise BadInput(f"unknown dimension {unknown[0]!r}", "rows, columns", f"there are: {', '.join(sorted(known))}")
    if len(set(shown)) < len(shown) or not {"model", "arm"} <= set(shown):
        raise BadInput("model and arm must each stand in rows or columns, once", "rows, columns", "such as [model]")
    apart = {(score.name, *(v for axis, v in score.at.items() if axis not in shown)) for score in scores}
    if "metric" not in shown and (len(apart) > 1 or any(ALL in key for key in apart)):
        raise BadInput("several scores, but metric stands nowhere", "rows, columns", "add metric to the rows")
    if table.aggregation not in AGGREGATIONS:
        raise BadInput(f"unknown aggregation {table.aggregation!r}", "aggregation", f"use {' or '.join(AGGREGATIONS)}")


def without_synthetic_rows(suite: Suite) -> Suite:
    """The suite for real data: models that mean something on synthetic storms only are left out."""
    kept = {name: spec for name, spec in suite.models.items() if not spec.synthetic_only}
    tables = {
        name: replace(table, models=table.models and [m for m in table.models if m in kept])
        for name, table in suite.tables.items()
    }
    return replace(suite, models=kept, tables=tables)
