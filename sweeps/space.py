"""Search spaces (YAML): base configuration, parameters, objective and budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import read_manifest
from polarcast.data.shards.source import ShardSource
from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.checks import KnownData, check_base, check_data, check_run, expected_protocol, known_of
from polarcast.hpc.bench.data import DataSpec, check_sources
from polarcast.hpc.config.load import load_config, model_config, parse_overrides, with_current_names
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.scores.query import check_available, check_single, parse_score
from polarcast.hpc.utils import sources
from polarcast.sweeps.parameters import Parameter, Point, grid_size, parse_parameter

SPACES = sources.SPACES
SEARCHES = ("optuna", "random", "grid", "pbt")
_VALIDATION = "validation/"
LOSS = "loss"
_WHILE_TRAINING = ("train.learning_rate", "train.weight_decay", "train.clip_norm", "model.loss", "model.drop")
"""Keys that may change during training; a population may only search these."""
_CHECKPOINTS_TO_COPY = 8
_MOST_POINTS = 100_000
_BOUNDS = {"trials": (1, _MOST_POINTS), "grid": (1, 1000), "seed": (0, 2**32 - 1), "processes": (1, 1024)}


@dataclass
class SpaceFile:
    """Keys of a space file."""

    preset: str = "demo"
    """Base preset of every run."""
    set: dict[str, Any] = field(default_factory=dict)
    """Values that override the preset, nested as in a preset."""
    data: DataSpec | None = None
    """Data to prepare, as in a suite; without it, data.shards must exist."""
    objective: str = "validation/loss"
    """Objective: validation/loss, or a validation score such as validation/csi@threshold=35."""
    search: str = "optuna"
    """Search method: optuna (TPE), random, grid, or pbt.

    pbt trains a population of `trials` members. At each validation, the worst quarter continues from copies of members
    of the best quarter.
    """
    early_stopping: bool = True
    """Stop trials by successive halving (ASHA): one of three trials continues past each rung."""
    trials: int = 16
    """Number of points to try; a grid tries all."""
    grid: int = 3
    """Number of values per range of a grid."""
    seed: int = 0
    """Seed of the search."""
    processes: int = 1
    """Processes per training."""
    paired: bool = False
    """Train every point on both arms, radar and dualpol."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Configuration key → choice, uniform, log_uniform, integer or log_integer."""


@dataclass(frozen=True)
class Space:
    """A validated space.

    Attributes:
        name: Name of the space.
        file: Content of its file.
        parameters: Search parameters, in the order of the file.
    """

    name: str
    file: SpaceFile
    parameters: tuple[Parameter, ...]

    @property
    def objective(self) -> str:
        """`loss`, or the name of the score."""
        return self.file.objective.removeprefix(_VALIDATION)

    @property
    def smaller_is_better(self) -> bool:
        """Whether the objective is minimized."""
        return self.objective == LOSS or parse_score(self.objective).metric.direction == "lower"

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that each point is trained on; one, unless the sweep is paired."""
        return ("radar", "dualpol") if self.file.paired else (self.config({}).arm,)

    @property
    def is_population(self) -> bool:
        """Whether the search is population based training."""
        return self.file.search == "pbt"

    def config(self, point: Mapping[str, Any], arm: str | None = None) -> RunConfig:
        """Return the run configuration of a point.

        Raises:
            BadInput: the configuration is invalid.
        """
        chosen = OmegaConf.create({})
        for key, value in point.items():
            OmegaConf.update(chosen, key, value, force_add=True)
        layers = (with_current_names(layer, advise=False) for layer in (OmegaConf.create(self.file.set), chosen))
        values: Any = OmegaConf.merge(*layers)
        if arm:
            values.arm = arm
        if self.objective != LOSS:
            OmegaConf.update(values, "train.validate_scores", [self.objective], force_add=True)
        if self.is_population:
            OmegaConf.update(values, "train.keep_checkpoints", _CHECKPOINTS_TO_COPY, force_add=True)
        plain: dict[str, Any] = OmegaConf.to_container(values)  # type: ignore[assignment]
        return load_config(self.file.preset, plain)


def load_space(source: str, overrides: Sequence[str] = (), paired: bool = False, trials: int | None = None) -> Space:
    """Read and check a space.

    Args:
        source: Name of a bundled space, or path of a YAML file.
        overrides: `key=value` settings of every run; they override the space.
        paired: Whether to train every point on both arms.
        trials: Number of points; overrides the space.

    Raises:
        BadInput: the space does not exist, a key is unknown, the configuration rejects a value, or the objective is not
            a validation score with a clear direction.
    """
    path = sources.yaml_source(source, SPACES, "space")
    try:
        content = OmegaConf.load(path)
        merged = OmegaConf.merge(OmegaConf.structured(SpaceFile), content)
        file: SpaceFile = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, TypeError, RecursionError) as error:
        raise sources.wrong_content(error, path, "see the bundled spaces for examples") from None
    check_sources(content, path)
    own = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(file.set), parse_overrides(overrides)))
    file = replace(file, set=own, paired=file.paired or paired, trials=file.trials if trials is None else trials)  # type: ignore[arg-type]
    try:
        parameters = tuple(parse_parameter(k, v) for k, v in file.parameters.items())
    except BadInput as error:
        raise error.at(f"{path}, {error.where}") from None
    space = Space(path.stem, file, parameters)
    _check(space, path)
    return space


def check_on_data(space: Space, folder: Path) -> None:
    """Check that the runs of a space can be trained on their data, before the data are made.

    Args:
        space: The space.
        folder: Folder of the sweep.

    Raises:
        BadInput: the data can't be made, there are no shards, or a value of a parameter can't be used on them.
    """
    data = _known_data(space, folder)
    usual = {p.key: p.extremes[0] for p in space.parameters if not p.when}
    if data is None:
        return
    for arm, parameter in product(space.arms, space.parameters):
        for value, point in product(parameter.extremes, _settings(space, parameter)):
            _check_point(space, {**usual, **point, parameter.key: value}, arm, data)


def _known_data(space: Space, folder: Path) -> KnownData | None:
    """Return what is known of the data of a space; None for shards behind a URL."""
    if space.file.data:
        return check_data(space.file.data, SuiteFolder(folder, space.file.data).shards)
    location = space.config({}).data.shards
    return known_of(read_manifest(location)) if ShardSource(location).is_local else None


def _check_point(space: Space, point: Point, arm: str, data: KnownData) -> None:
    try:
        config = space.config(point, arm)
    except BadInput:  # values that exclude each other: only the trial fails
        return
    check_run(config, data, space.name)
    check_base(config, space.name)


def _check(space: Space, path: Path) -> None:
    file = space.file
    if file.search not in SEARCHES:
        raise BadInput(f"unknown search {file.search!r}", f"{path}, search", f"choose from: {', '.join(SEARCHES)}")
    if not space.parameters:
        raise BadInput(
            "no parameters to search",
            f"{path}, parameters",
            "add for example train.learning_rate: {log_uniform: [1e-4, 1e-2]}",
        )
    if file.data and "shards" in (file.set.get("data") or {}):
        raise BadInput("the space makes its own data", f"{path}, data.shards", "remove it, or the data of the space")
    _check_numbers(space, path)
    if space.is_population:
        _check_population(space, path)
    _check_objective(space, path)
    known: set[str] = set()
    for parameter in space.parameters:
        if missing := [key for key in parameter.when if key not in known]:
            problem = f"depends on {missing[0]}, which is not defined before it"
            raise BadInput(problem, f"{path}, {parameter.key}", f"move {missing[0]} before it, or remove the condition")
        known.add(parameter.key)
        for value, point in product(parameter.extremes, _settings(space, parameter)):
            _check_value(space, path, {**point, parameter.key: value}, parameter.key)


def _check_numbers(space: Space, path: Path) -> None:
    for name, (least, most) in _BOUNDS.items():
        if not least <= (value := getattr(space.file, name)) <= most:
            raise BadInput(f"{value} is out of range", f"{path}, {name}", f"give {least} to {most}")
    if space.file.search == "grid" and (count := grid_size(space.parameters, space.file.grid)) > _MOST_POINTS:
        raise BadInput(
            f"the grid has {count} points", f"{path}, grid", f"give fewer values: at most {_MOST_POINTS} points"
        )


def _check_population(space: Space, path: Path) -> None:
    if fixed := [p.key for p in space.parameters if p.key not in _WHILE_TRAINING]:
        fix = f"use another search; pbt may change {', '.join(_WHILE_TRAINING)}"
        raise BadInput("can't change during training", f"{path}, {fixed[0]}", fix)
    if space.file.trials < 2:
        raise BadInput("a population needs at least two members", f"{path}, trials", "give 2 or more")


def _settings(space: Space, parameter: Parameter) -> list[Point]:
    """Return a point that satisfies the condition of a parameter; the first choice of each key is enough."""
    by_key = {p.key: p for p in space.parameters}
    needed: Point = {}
    for key, values in parameter.when.items():
        needed |= {k: v[0] for k, v in by_key[key].when.items()} | {key: values[0]}
    return [needed]


def _check_value(space: Space, path: Path, point: Point, key: str) -> None:
    try:
        model_config(space.config(point))
    except BadInput as error:
        raise BadInput(f"{point[key]!r} is not accepted ({error})", f"{path}, {key}", "correct the value") from None


def _check_objective(space: Space, path: Path) -> None:
    where = f"{path}, objective"
    if not space.file.objective.startswith(_VALIDATION):
        fix = f"use the validation split: {_VALIDATION}{space.file.objective.split('/')[-1]}"
        raise BadInput(f"{space.file.objective!r} is not a validation score", where, fix)
    if space.objective == LOSS:
        return
    check_single([space.objective], where)
    try:
        check_available(parse_score(space.objective), expected_protocol(space.config({})), ("lead_time",))
    except BadInput as error:
        raise error.at(where) from None
    if parse_score(space.objective).metric.direction in ("target", "none"):
        raise BadInput(
            f"{space.objective} can't be optimized: neither smaller nor larger is better",
            where,
            "choose an error or skill score, such as rmse",
        )
