"""A space (YAML): which runs, what may be chosen in them, what is sought, and for how long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.data import DataSpec
from polarcast.hpc.config.load import load_config, model_config, parse_overrides
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.query import check_single, parse_score
from polarcast.sweeps.parameters import Parameter, Point, parse_parameter

SPACES = Path(__file__).parent
SEARCHES = ("optuna", "random", "grid", "pbt")
_VALIDATION = "validation/"
_LOSS = "loss"
_TWO_SIDED = ("nb", "bias", "lost_variance", "power", "spread_skill")
"""Too little of these is as bad as too much."""
_WHILE_TRAINING = ("train.learning_rate", "train.weight_decay", "train.clip_norm", "model.loss", "model.drop")
"""What may change from one step to the next, as a population does it."""
_CHECKPOINTS_TO_COPY = 8


@dataclass
class SpaceFile:
    """What a space's file may say."""

    preset: str = "demo"
    """Preset that every run starts from."""
    set: dict[str, Any] = field(default_factory=dict)
    """Values that replace the preset's, nested as in a preset."""
    data: DataSpec | None = None
    """Data to make, as in a suite; without it data.shards must be there."""
    objective: str = "validation/loss"
    """validation/loss, or a score on the validation split such as validation/csi@threshold=35."""
    search: str = "optuna"
    """optuna (TPE), random, grid, or pbt: a population of `trials`, of which the worst quarter goes on, at each
    validation, from a copy of one of the best quarter."""
    early_stopping: bool = True
    """Successive halving (ASHA): of three trials that come to a rung, one goes on."""
    trials: int = 16
    """Points to try; a grid tries all."""
    grid: int = 3
    """Values over each range of a grid."""
    seed: int = 0
    """Of the search."""
    processes: int = 1
    """Processes of each training."""
    paired: bool = False
    """Train every point on both arms, radar and dualpol."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Key of the configuration → choice, uniform, log_uniform, integer or log_integer."""


@dataclass(frozen=True)
class Space:
    """A checked space.

    Attributes:
        name: Of the space.
        file: What its file says.
        parameters: What may be chosen, in the order of the file.
    """

    name: str
    file: SpaceFile
    parameters: tuple[Parameter, ...]

    @property
    def objective(self) -> str:
        """`loss`, or the score's name."""
        return self.file.objective.removeprefix(_VALIDATION)

    @property
    def smaller_is_better(self) -> bool:
        """Which way the objective goes."""
        return self.objective == _LOSS or METRICS[parse_score(self.objective).name].perfect == 0

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that each point is trained on; one, unless the sweep is paired."""
        return ("radar", "dualpol") if self.file.paired else (self.config({}).arm,)

    @property
    def is_population(self) -> bool:
        """Whether trials go on from others'."""
        return self.file.search == "pbt"

    def config(self, point: Mapping[str, Any], arm: str | None = None) -> RunConfig:
        """The configuration of a point.

        Raises:
            BadInput: it is not valid.
        """
        values = OmegaConf.create(self.file.set)
        for key, value in point.items():
            OmegaConf.update(values, key, value, force_add=True)
        if arm:
            values.arm = arm
        if self.objective != _LOSS:
            OmegaConf.update(values, "train.validate_scores", [self.objective], force_add=True)
        if self.is_population:
            OmegaConf.update(values, "train.keep_checkpoints", _CHECKPOINTS_TO_COPY, force_add=True)
        plain: dict[str, Any] = OmegaConf.to_container(values)  # type: ignore[assignment]
        return load_config(self.file.preset, plain)


def load_space(source: str, overrides: Sequence[str] = (), paired: bool = False, trials: int | None = None) -> Space:
    """Read and check a space.

    Args:
        source: Name or file.
        overrides: `key=value`, which every run is to have in place of what the space sets.
        paired: Makes it one of both arms.
        trials: In place of the space's own number.

    Raises:
        BadInput: no such space, an unknown key, a value that the configuration refuses, or an objective that is no
            validation score with a better side.
    """
    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else SPACES / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in SPACES.glob("*.yaml")))
        raise BadInput("no such space", source, f"there are: {names}; or give a YAML file")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(SpaceFile), OmegaConf.load(path))
        file: SpaceFile = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        raise BadInput(str(error).splitlines()[0], path, "see the spaces that come with polarcast") from None
    own = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(file.set), parse_overrides(overrides)))
    file = replace(file, set=own, paired=file.paired or paired, trials=trials or file.trials)  # type: ignore[arg-type]
    space = Space(path.stem, file, tuple(parse_parameter(k, v) for k, v in file.parameters.items()))
    _check(space, path)
    return space


def _check(space: Space, path: Path) -> None:
    file = space.file
    if file.search not in SEARCHES:
        raise BadInput(f"unknown search {file.search!r}", f"{path}, search", f"there are: {', '.join(SEARCHES)}")
    if not space.parameters:
        raise BadInput(
            "nothing to choose", f"{path}, parameters", "such as train.learning_rate: {log_uniform: [1e-4, 1e-2]}"
        )
    if space.is_population:
        _check_population(space, path)
    _check_objective(space, path)
    known: set[str] = set()
    for parameter in space.parameters:
        if missing := [key for key in parameter.when if key not in known]:
            problem = f"depends on {missing[0]}, which is not chosen before it"
            raise BadInput(problem, f"{path}, {parameter.key}", "put that first, or leave the condition out")
        known.add(parameter.key)
        for value, point in product(parameter.extremes, _settings(space, parameter)):
            _check_value(space, path, {**point, parameter.key: value}, parameter.key)


def _check_population(space: Space, path: Path) -> None:
    if fixed := [p.key for p in space.parameters if p.key not in _WHILE_TRAINING]:
        fix = f"choose it by another search; pbt may change {', '.join(_WHILE_TRAINING)}"
        raise BadInput("can't change while a net is trained", f"{path}, {fixed[0]}", fix)
    if space.file.trials < 2:
        raise BadInput("a population has two members at least", f"{path}, trials", "give it more")


def _settings(space: Space, parameter: Parameter) -> list[Point]:
    """What else must be chosen for a parameter to be; the first choice of each key is enough."""
    by_key = {p.key: p for p in space.parameters}
    needed: Point = {}
    for key, values in parameter.when.items():
        needed |= {k: v[0] for k, v in by_key[key].when.items()} | {key: values[0]}
    return [needed]


def _check_value(space: Space, path: Path, point: Point, key: str) -> None:
    try:
        model_config(space.config(point))
    except BadInput as error:
        raise BadInput(f"{point[key]!r} is not accepted ({error})", f"{path}, {key}", "mend the space") from None


def _check_objective(space: Space, path: Path) -> None:
    where = f"{path}, objective"
    if not space.file.objective.startswith(_VALIDATION):
        fix = f"choose by the validation split: {_VALIDATION}{space.file.objective.split('/')[-1]}"
        raise BadInput(f"{space.file.objective!r} is no validation score", where, fix)
    if space.objective == _LOSS:
        return
    check_single([space.objective], where)
    if parse_score(space.objective).name in _TWO_SIDED:
        raise BadInput(f"{space.objective} has no better side", where, "choose an error or a skill score, such as rmse")
