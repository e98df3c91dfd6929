"""Typed configuration: dataclasses, presets, files and `key=value` overrides, checked before anything starts."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError
from yaml import YAMLError

from polarcast.data.errors import BadInput
from polarcast.hpc.base_run import config_of, resolve
from polarcast.hpc.config_check import DUALPOL, check
from polarcast.hpc.settings import DataConfig, EvaluateConfig, TrainConfig

PRESETS = Path(__file__).with_name("presets")
_ONLY_WHERE = ("shards", "stage_to", "verify", "max_bad_share", "workers", "map_gib")
"""Of `data`: where the bytes come from and how they are watched, not what they are."""
_ONLY_HOW = (
    "micro_batch", "engine", "zero_stage", "offload_optimizer", "checkpoint_activations", "compile", "explode",
    "stop_seconds", "heartbeat_seconds", "checkpoint_every", "keep_checkpoints", "log_every", "threads",
    "validate_scores", "track",
)  # fmt: skip
"""Of `train`: how the steps are computed and recorded, not which. A run may change it from one start to the next."""


_YOUNGER = {"": ("base", "evaluate"),
            "data": ("crop", "context", "hold_out", "only_held_out", "seen_frames", "lead_frames", "turn",
                     "thicken_db"),
            "train": ("validate_windows",),
            "model": ("heavy_power", "heavy_cap", "mean_of", "noise_shift", "carry", "carry_back")}  # fmt: skip
"""Settings that the first runs did not have yet."""


@dataclass
class RunConfig:
    """One training run."""

    task: str = "qpe"
    """qpe: rain rate from the radar fields of the same time; nowcast: zh of the next hour from those of the last."""
    arm: str = "dualpol"
    """radar (ZH alone) or dualpol (QPE: ZH and ZDR; nowcast: ZH, ZDR and KDP)."""
    match_params: bool = True
    """Solve the channel widths so that both arms have the parameter count of the dual-pol arm within 1%."""
    seed: int = 0
    """Seed of initial weights and of the order of samples."""
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=lambda: {"name": "unet"})
    """`name`, and the fields of that model's own configuration."""
    base: Any = None
    """Folder of a trained run that the model builds on, for those that do."""
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def variables(self) -> tuple[str, ...]:
        """The variables this run reads."""
        return tuple(self.data.variables or self.arm_variables(self.arm))

    def arm_variables(self, arm: str) -> tuple[str, ...]:
        """The variables an arm reads unless `data.variables` says otherwise."""
        return ("zh",) if arm == "radar" else DUALPOL[self.task]

    @property
    def is_nowcast(self) -> bool:
        """Whether frames are forecast that come after those seen."""
        return self.task == "nowcast"

    @property
    def frames(self) -> int:
        """Frames a model sees."""
        return self.data.seen_frames if self.is_nowcast else 1 + self.data.context

    @property
    def lead_frames(self) -> int:
        """Frames it forecasts after them; 0 for an estimate."""
        return self.data.lead_frames if self.is_nowcast else 0

    def to_dict(self) -> dict[str, Any]:
        """As plain dictionaries and lists, to be written and hashed."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 of everything that shapes the result; where the shards lie does not."""
        content = self.to_dict()
        for key in _ONLY_WHERE:
            del content["data"][key]
        for key in ("retries", "stall_seconds"):
            del content["data"]["stream"][key]
        for key in _ONLY_HOW:
            del content["train"][key]
        if content["base"]:
            content["base"] = config_of(content["base"]).digest()
        _forget_defaults(content)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _forget_defaults(content: dict[str, Any]) -> None:
    """Runs are named without settings that are younger than they are."""
    from polarcast.models.registry import entry

    plain = asdict(RunConfig())
    plain["model"] = dict(vars(entry(content["model"]["name"]).config()))
    for part, keys in _YOUNGER.items():
        inside, default = (content[part], plain[part]) if part else (content, plain)
        for key in keys:
            if key in inside and inside[key] == default[key]:
                del inside[key]


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any] = ()) -> RunConfig:
    """Build a checked configuration.

    Args:
        source: A preset's name, a YAML file, or values.
        overrides: `key=value` with dotted keys, such as `train.steps=100` (the last one wins), or nested values. Naming
            another model drops the source's settings of its own model.

    Raises:
        BadInput: an unknown preset, key or model, a value of the wrong type, or KDP asked for in QPE.
    """
    base, changes = _read(source), parse_overrides(overrides)
    if OmegaConf.select(changes, "model.name") not in (None, OmegaConf.select(base, "model.name")):
        base.pop("model", None)
    values = OmegaConf.merge(base, changes)
    schema = OmegaConf.structured(RunConfig)
    schema.model = _model_schema(values)
    try:
        merged = OmegaConf.merge(schema, values)
    except ConfigKeyError as error:
        raise _unknown_key(str(error.full_key), schema) from None
    except ValidationError as error:
        got = OmegaConf.select(values, str(error.full_key))
        raise BadInput(f"wrong value {got!r}", error.full_key, str(error).splitlines()[0]) from None
    model = OmegaConf.to_container(merged.model)
    merged.model = {}
    config: RunConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    config.model = model
    config.base = resolve(config.base)
    check(config)
    return config


def model_config(config: RunConfig) -> Any:
    """The model's own configuration dataclass, filled from `config.model`."""
    from polarcast.models.registry import entry

    values = {k: v for k, v in config.model.items() if k != "name"}
    return entry(config.model["name"]).config(**values)


def _read(source: str | Path | Mapping[str, Any]) -> DictConfig:
    if isinstance(source, Mapping):
        return OmegaConf.create(dict(source))
    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else PRESETS / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise BadInput("no such preset or file", source, f"presets: {names}; or give a YAML file")
    try:
        loaded = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        raise BadInput(f"not readable as YAML ({str(error).splitlines()[0]})", path, "mend the file") from None
    if not isinstance(loaded, DictConfig):
        raise BadInput("expected keys and values", path, "see the presets for an example")
    return loaded


def parse_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> DictConfig:
    """`key=value` with dotted keys, or nested values, as one tree. Raises BadInput for what is neither."""
    if isinstance(overrides, Mapping):
        return OmegaConf.create(dict(overrides))
    for override in overrides:
        if "=" not in override:
            raise BadInput(f"{override!r} is not key=value", "override", "for example train.steps=100")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except OmegaConfBaseException as error:
        raise BadInput(str(error).splitlines()[0], "override", "for example train.steps=100") from None


def _model_schema(values: Any) -> DictConfig:
    from polarcast.models.registry import entry

    name = OmegaConf.select(values, "model.name") or "unet"
    schema = OmegaConf.structured(entry(name).config)
    OmegaConf.set_struct(schema, False)
    schema.name = name
    OmegaConf.set_struct(schema, True)
    return schema


def _unknown_key(key: str, schema: DictConfig) -> BadInput:
    known = _dotted(OmegaConf.to_container(schema))
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    fix = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    return BadInput(f"unknown key {key!r}", "configuration", fix)


def _dotted(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict) or not tree:
        return [prefix.rstrip(".")]
    return [key for name, branch in tree.items() for key in _dotted(branch, f"{prefix}{name}.")]
