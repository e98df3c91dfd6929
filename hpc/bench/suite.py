"""Suite files (YAML): data, models with their arms and seeds, and tables."""

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
    """A model of a suite and its configuration."""

    label: str = MISSING
    """Name in tables."""
    preset: str = "demo"
    """Preset the run starts from."""
    set: dict[str, Any] = field(default_factory=dict)
    """Values that replace the preset's, nested as in a preset."""
    base: str | None = None
    """Model of this suite that it builds on."""
    arms: list[str] | None = None
    """Arms to run; by default the suite's arms."""
    seeds: list[int] | None = None
    """Seeds to run; by default the suite's seeds. A model without randomness uses only the first."""
    radar_of: str | None = None
    """Model of this suite whose radar arm tables show for this model, which then has none of its own."""
    synthetic_only: bool = False
    """Whether the model is meaningful on synthetic archives only; it is left out on others."""


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
        raise BadInput("no such suite", source, f"choose from: {names}; or give a YAML file")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Suite(name=path.stem)), OmegaConf.load(path))
        suite: Suite = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        raise BadInput(str(error).splitlines()[0], path, "compare the file with a built-in suite") from None
    for name, table in suite.tables.items():
        try:
            check_table(table)
        except BadInput as error:
            raise BadInput(error.what, f"{path}, {name}", error.fix) from None
    named = [m for table in suite.tables.values() for m in table.models or []]
    named += [other for spec in suite.models.values() for other in (spec.base, spec.radar_of) if other]
    if unknown := [m for m in named if m not in suite.models]:
        raise BadInput(f"unknown model {unknown[0]!r}", path, f"choose from: {', '.join(suite.models)}")
    for name, spec in suite.models.items():
        if spec.radar_of and "radar" not in suite.arms_of(spec.radar_of):
            raise BadInput(f"{name} shows the radar arm of {spec.radar_of}, which has none", path, "add it")
        if spec.radar_of and suite.seeds_of(spec.radar_of)[: len(own := suite.seeds_of(name))] != own:
            raise BadInput(f"the seeds of {spec.radar_of} do not begin with those of {name}", path, f"begin with {own}")
    return suite


def check_table(table: TableSpec) -> None:
    """Check the scores, aggregation and layout of a table.

    Raises:
        BadInput: a score, aggregation or dimension is unknown, or a dimension is missing or repeated.
    """
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
    """Return the suite for real data, without the models that are meaningful on synthetic storms only."""
    kept = {name: spec for name, spec in suite.models.items() if not spec.synthetic_only}
    tables = {
        name: replace(table, models=table.models and [m for m in table.models if m in kept])
        for name, table in suite.tables.items()
    }
    return replace(suite, models=kept, tables=tables)
