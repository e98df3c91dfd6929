"""Load and validate a configuration from presets, YAML files and `key=value` overrides."""

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
    """Load and validate a configuration.

    Args:
        source: Name of a preset, path of a YAML file, or nested values.
        overrides: `key=value` with dotted keys, such as `train.steps=100` (the last one wins), or nested values. A
            different `model.name` drops the model settings of the source.
        advise: Whether to log a warning for each former name of a key; pass False for stored configurations.

    Raises:
        BadInput: unknown preset, key or model, value of the wrong type, or KDP as an input of QPE.
    """
    base, changes = (with_current_names(part, advise) for part in (_read(source), parse_overrides(overrides)))
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
    """Return the configuration dataclass of the model, filled from `config.model`."""
    from polarcast.models.registry import get_model

    values = {k: v for k, v in config.model.items() if k != "name"}
    return get_model(config.model["name"]).config(**values)


def _read(source: str | Path | Mapping[str, Any]) -> DictConfig:
    if isinstance(source, Mapping):
        return OmegaConf.create(dict(source))
    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else PRESETS / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise BadInput("no such preset or file", source, f"choose a preset ({names}), or give a YAML file")
    try:
        loaded = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        raise BadInput(f"not readable as YAML ({str(error).splitlines()[0]})", path, "correct the file") from None
    if not isinstance(loaded, DictConfig):
        raise BadInput("expected keys and values", path, "use a preset as an example")
    return loaded


def parse_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> DictConfig:
    """Parse `key=value` with dotted keys, or nested values, into a tree. Raises BadInput for malformed overrides."""
    if isinstance(overrides, Mapping):
        return OmegaConf.create(dict(overrides))
    if isinstance(overrides, str):
        raise BadInput(f"a single string {overrides!r}", "overrides", f"give a list: [{overrides!r}]")
    for override in overrides:
        if "=" not in override:
            raise BadInput(f"{override!r} is not key=value", "override", "write for example train.steps=100")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except OmegaConfBaseException as error:
        raise BadInput(str(error).splitlines()[0], "override", "write for example train.steps=100") from None


@cache
def _former_names() -> dict[str, str]:
    """Return the mapping from former dotted keys to current ones."""

    def walk(config: Any, prefix: str) -> Iterator[tuple[str, str]]:
        for field in fields(config):
            if was := field.metadata.get("was"):
                yield f"{prefix}{was}", f"{prefix}{field.name}"
            if is_dataclass(value := getattr(config, field.name)):
                yield from walk(value, f"{prefix}{field.name}.")

    return dict(walk(RunConfig(), ""))


def with_current_names(values: DictConfig, advise: bool) -> DictConfig:
    """Rename former keys to current ones; if `advise`, log a warning, once per key.

    Raises:
        BadInput: a key is given under both names.
    """
    for former, name in _former_names().items():
        part, _, key = former.rpartition(".")
        section = OmegaConf.select(values, part) if part else values
        if not isinstance(section, DictConfig) or key not in section:
            continue
        if name.rpartition(".")[2] in section:
            raise BadInput(f"is also given as {former}, its former name", name, "give it once")
        if advise:
            _advise(former, name)
        OmegaConf.update(values, name, section.pop(key), force_add=True)
    return values


@cache
def _advise(former: str, name: str) -> None:
    _log.warning("polarcast: %s was renamed to %s; the former name still works", former, name)


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
    former = _former_names()
    near = [former.get(name, name) for name in difflib.get_close_matches(key, [*known, *former], n=1, cutoff=0.5)]
    fix = f"did you mean {near[0]}?" if near else f"choose from: {', '.join(known)}"
    return BadInput(f"unknown key {key!r}", "configuration", fix)


def _dotted(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict) or not tree:
        return [prefix.rstrip(".")]
    return [key for name, branch in tree.items() for key in _dotted(branch, f"{prefix}{name}.")]


def _read_base(base: Any) -> BaseRun | None:
    """Return the base run, given its folder or the stored `{run, config}`; None without a base.

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
