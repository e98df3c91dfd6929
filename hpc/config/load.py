"""Typed configuration: dataclasses, presets, files and `key=value` overrides, checked before anything starts."""

import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError
from yaml import YAMLError

from polarcast.data.errors import BadInput
from polarcast.hpc.config.schema import BaseRun, RunConfig
from polarcast.hpc.config.validate import check

_log = logging.getLogger("polarcast")

PRESETS = Path(__file__).with_name("presets")


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] | Mapping[str, Any] = (),
    advise: bool = True,
) -> RunConfig:
    """Build a checked configuration.

    Args:
        source: A preset's name, a YAML file, or values.
        overrides: `key=value` with dotted keys, such as `train.steps=100` (the last one wins), or nested values. Naming
            another model drops the source's settings of its own model.
        advise: Whether to log a line for each former name of a key; what is stored in a run can't be renamed.

    Raises:
        BadInput: an unknown preset, key or model, a value of the wrong type, or KDP asked for in QPE.
    """
    base, changes = (_with_current_names(part, advise) for part in (_read(source), parse_overrides(overrides)))
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
    config.base = _read_base(config.base)
    check(config)
    return config


def model_config(config: RunConfig) -> Any:
    """The model's own configuration dataclass, filled from `config.model`."""
    from polarcast.models.registry import get_model

    values = {k: v for k, v in config.model.items() if k != "name"}
    return get_model(config.model["name"]).config(**values)


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


@cache
def _former_names() -> dict[str, str]:
    """Dotted keys that configurations had before, and their names today."""

    def walk(config: Any, prefix: str) -> Iterator[tuple[str, str]]:
        for field in fields(config):
            if was := field.metadata.get("was"):
                yield f"{prefix}{was}", f"{prefix}{field.name}"
            if is_dataclass(value := getattr(config, field.name)):
                yield from walk(value, f"{prefix}{field.name}.")

    return dict(walk(RunConfig(), ""))


def _with_current_names(values: DictConfig, advise: bool) -> DictConfig:
    """Read former keys under their present names; log the advice to rename them, once for each key."""
    for former, name in _former_names().items():
        part, _, key = former.rpartition(".")
        section = OmegaConf.select(values, part) if part else values
        if not isinstance(section, DictConfig) or key not in section:
            continue
        if advise:
            _advise(former, name)
        OmegaConf.update(values, name, section.pop(key), force_add=True)
    return values


@cache
def _advise(former: str, name: str) -> None:
    _log.warning("polarcast: %s is called %s now; the former name is still read", former, name)


def _model_schema(values: Any) -> DictConfig:
    from polarcast.models.registry import get_model

    name = OmegaConf.select(values, "model.name") or "unet"
    schema = OmegaConf.structured(get_model(name).config)
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


def _read_base(base: Any) -> BaseRun | None:
    """Return the run to build on, from its folder or from `{run, config}` as it is stored.

    Raises:
        BadInput: the folder is not a run.
    """
    if base is None:
        return None
    if not isinstance(base, str | Path):
        name = base["config"]["model"]["name"]
        return BaseRun(str(base["run"]), load_config({"model": {"name": name}}, base["config"], advise=False))
    file = Path(base) / "config.yaml"
    if not file.is_file():
        raise BadInput("not a run: it has no config.yaml", base, "give the folder of a trained run, as base=runs/unet")
    return BaseRun(str(Path(base).resolve()), load_config(file, advise=False))
