"""Load and validate a configuration from presets, YAML files and `key=value` overrides."""

import hashlib
import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from polarcast.data.errors import BadInput, nearest, shown
from polarcast.data.files import open_regular, read_json
from polarcast.data.folder_kind import RUN_FILE
from polarcast.data.secrets import redacted
from polarcast.hpc.config.schema import LEVELS, BaseRun, RunConfig, StartRun
from polarcast.hpc.config.stored import WEIGHTS_FILE, bytes_of, is_remote, is_stored, literal, read_stored
from polarcast.hpc.utils.sources import PRESETS

_log = logging.getLogger("polarcast")

_BASE_FIX = "give the folder of a trained run, as base=runs/unet, or of several, as base=runs/unet,runs/wf_unet"
_START_FIX = "give the folder of a trained run, as train.start_from=runs/unet"
_RUNS = {"base", "start_from"}
"""Keys whose value is a run: a folder, or the stored content."""


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] | Mapping[str, Any] = (),
    advise: bool = True,
) -> RunConfig:
    """Load and validate a configuration.

    Args:
        source: Name of a preset, path of a YAML file, or nested values. The config.yaml of a run is read as plain data
            (see `read_stored`); its shards are only used if they are in a local folder or among the overrides.
        overrides: `key=value` with dotted keys, such as `train.steps=100` (the last one wins), or nested values. A
            different `model.name` drops the model settings of the source.
        advise: Whether to log a warning for each former name of a key; pass False for stored configurations.

    Raises:
        BadInput: unknown preset, key or model, value of the wrong type or outside its range, or KDP as an input of QPE.
    """
    with _one_line_errors("configuration"):
        given = _read(source), parse_overrides(overrides)
        base, changes = (with_current_names(part, advise) for part in given)
        if _name_of_model(changes) not in (None, _name_of_model(base)):
            base.pop("model", None)
        if isinstance(source, str | Path) and is_stored(Path(source)):
            _drop_locations(base, changes, Path(source))
        _check_containers(changes, base)
        # Unsafe only in that both are used up, which spares copies of them.
        values = OmegaConf.unsafe_merge(base, changes)
        assert isinstance(values, DictConfig)
        return _validated(values)


def load_stored(path: Path, trust: bool = False) -> RunConfig:
    """Load and validate the stored configuration of a run, which may be made by others.

    Args:
        path: Its config.yaml.
        trust: Whether texts may hold `${`; it is never interpolated.

    Raises:
        BadInput: the file is damaged or holds `${`, or a value is invalid; see `load_config`.
    """
    config: RunConfig = pickle.loads(_loaded(path, bytes_of(path), trust))
    return config


@lru_cache(maxsize=256)
def _loaded(path: Path, data: bytes, trust: bool) -> bytes:
    """Return the pickled configuration of a file's content: a suite asks for those of its runs again and again."""
    content = read_stored(path, trust, data)
    base = content.get("base")
    if any(isinstance(one, str) for one in (base if isinstance(base, list) else [base])):
        raise BadInput(
            "names a folder, and stored configurations contain their base", f"{path}, base", "train it again"
        )
    train = content.get("train")
    if isinstance(train, dict) and isinstance(train.get("start_from"), str):
        what = "names a folder, and stored configurations contain the run that they start from"
        raise BadInput(what, f"{path}, train.start_from", "train it again")
    try:
        return pickle.dumps(load_config(_completed(content), advise=False))
    except BadInput as error:
        raise error.at(f"{path}, {error.where}") from None


def _completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a stored configuration the values of settings that were fixed before they became settings."""
    return {"match_by": LEVELS, **stored}


def model_config(config: RunConfig) -> Any:
    """Return the configuration dataclass of the model, filled from `config.model`."""
    from polarcast.models.registry import get_model

    values = {k: v for k, v in config.model.items() if k != "name"}
    return get_model(config.model["name"]).config(**values)


def _validated(values: DictConfig) -> RunConfig:
    """Return the configuration of nested values, which are used up.

    Raises:
        BadInput: a key is unknown, or a value is invalid.
    """
    if "model" in values:
        _require(DictConfig, values.model, "model", "settings, such as model.name=unet")
    schema: DictConfig = pickle.loads(_schema())
    schema.model = _model_schema(values)
    _check_containers(values, schema)
    try:
        merged = OmegaConf.unsafe_merge(schema, values)
    except ConfigKeyError as error:
        raise _unknown_key(str(error.full_key), schema) from None
    model = OmegaConf.to_container(merged.model, resolve=True, throw_on_missing=True)
    merged.model = {}
    config: RunConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    config.model = model
    config.base = _read_bases(config.base)
    config.train.start_from = read_start(config.train.start_from)
    from polarcast.hpc.config.validate import check  # after the keys are checked, because it imports torch

    check(config)
    model_config(config)
    return config


@cache
def _schema() -> bytes:
    """Return the pickled schema of all keys but those of the model: a copy takes a tenth of the time to make it."""
    return pickle.dumps(OmegaConf.structured(RunConfig))


def _drop_locations(stored: DictConfig, changes: DictConfig, path: Path) -> None:
    """Remove locations of a stored configuration that only its maker could have meant.

    Raises:
        BadInput: its shards are not in a local folder, and the user gives no others.
    """
    data = stored.get("data")
    if not isinstance(data, DictConfig):
        return
    data.pop("stage_to", None)
    shards = data.get("shards")
    if is_remote(shards) and OmegaConf.select(changes, "data.shards") is None:
        what = f"the configuration of this run reads shards through {shown(redacted(shards))}"
        raise BadInput(what, path, "give data.shards=… yourself")


def _check_containers(values: DictConfig, schema: DictConfig, prefix: str = "") -> None:
    """Raise BadInput for a value where settings or a list belong, as in data=1 and model.widths[0]=4."""
    for name in sorted(map(str, set(values) & set(schema) - _RUNS)):
        expected, value, key = schema[name], values[name], f"{prefix}{name}"
        if isinstance(expected, DictConfig):
            _require(DictConfig, value, key, f"settings, such as {key}.{next(iter(expected), 'name')!s}=…")
            _check_containers(value, expected, f"{key}.")
        elif isinstance(expected, ListConfig) and value is not None:
            _require(ListConfig, value, key, f"a list, such as {key}=[…]")
        elif isinstance(value, DictConfig):
            raise BadInput(f"got {shown(value)}", key, f"give one value, such as {key}=…")


def _require(kind: type, value: Any, key: str, expected: str) -> None:
    if not isinstance(value, kind):
        raise BadInput(f"got {shown(value)}", key, f"give {expected}")


def _name_of_model(values: DictConfig) -> Any:
    model = values.get("model")
    return model.get("name") if isinstance(model, DictConfig) else None


@contextmanager
def _one_line_errors(where: str) -> Iterator[None]:
    """Turn errors of YAML and OmegaConf into BadInput."""
    try:
        yield
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError, RecursionError) as error:
        key = getattr(error, "full_key", None) or where
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadInput(redacted(reason), key, "correct this value, or leave it out") from None


def _read(source: str | Path | Mapping[str, Any]) -> DictConfig:
    if isinstance(source, Mapping):
        return OmegaConf.create(dict(source))
    if not isinstance(source, str | Path):
        raise BadInput(f"got {shown(source)}", "configuration", "give a preset, a YAML file, or nested values")
    path = Path(source) if Path(source).suffix in (".yaml", ".yml") else PRESETS / f"{source}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in PRESETS.glob("*.yaml"))
        fix = f"{nearest(source, names)} choose a preset ({', '.join(names)}), or give a YAML file"
        raise BadInput("no such preset or file", source, fix.strip())
    if is_stored(path):
        return OmegaConf.create(_completed(read_stored(path)))
    try:
        loaded = deepcopy(_parsed(path, path.stat().st_mtime_ns))
    except (YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise BadInput(f"not readable as YAML ({str(error).splitlines()[0]})", path, "correct the file") from None
    if not isinstance(loaded, DictConfig):
        raise BadInput("expected keys and values", path, "use a preset as an example")
    return loaded


@lru_cache(maxsize=32)
def _parsed(path: Path, changed: int) -> DictConfig | ListConfig:
    """Return the content of a YAML file that was last changed at a time in ns; the cells of a suite share presets."""
    return OmegaConf.load(path)


def parse_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> DictConfig:
    """Parse `key=value` with dotted keys, or nested values, into a tree. Raises BadInput for malformed overrides."""
    if isinstance(overrides, Mapping):
        return OmegaConf.create(dict(overrides))
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise BadInput(f"expected a list, got {shown(overrides)}", "overrides", "give for example ['train.steps=100']")
    for override in overrides:
        if not isinstance(override, str) or "=" not in override:
            raise BadInput(f"{shown(override)} is not key=value", "override", "write for example train.steps=100")
    parsed = OmegaConf.create({})
    for override in overrides:
        try:
            parsed.merge_with_dotlist([override])
        except (OmegaConfBaseException, YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
            what = f"{shown(redacted(override))}: {str(error).splitlines()[0]}"
            raise BadInput(what, "override", "write for example train.steps=100") from None
    return parsed


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


def _model_schema(values: DictConfig) -> DictConfig:
    from polarcast.models.registry import get_model

    name = values.model.get("name", "unet") if "model" in values else "unet"
    schema = deepcopy(_settings_schema(get_model(name).config))  # type: ignore[arg-type]  # a class is hashable
    OmegaConf.set_struct(schema, False)
    schema.name = name
    OmegaConf.set_struct(schema, True)
    return schema


@lru_cache(maxsize=64)
def _settings_schema(kind: type[Any]) -> DictConfig:
    """Return the schema of the settings of a model, given their dataclass; callers change copies only."""
    schema: DictConfig = OmegaConf.structured(kind)
    return schema


def _unknown_key(key: str, schema: DictConfig) -> BadInput:
    known = _dotted(OmegaConf.to_container(schema))
    fix = nearest(key, known, _former_names(), alike=0.5) or f"choose from: {', '.join(known)}"
    return BadInput(f"unknown key {shown(key)}", "configuration", fix)


def _dotted(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict) or not tree:
        return [prefix.rstrip(".")]
    return [key for name, branch in tree.items() for key in _dotted(branch, f"{prefix}{name}.")]


def _read_bases(base: Any) -> BaseRun | list[BaseRun] | None:
    """Return the base run, or a list of two or more, given one or several; see `_read_base`. Commas separate folders.

    Raises:
        BadInput: a folder is not a run, or is given twice.
    """
    if isinstance(base, str) and "," in base and not Path(base).exists():
        base = [folder.strip() for folder in base.split(",")]
    if not isinstance(base, list):
        return _read_base(base)
    found = [one for folder in base if (one := _read_base(folder if folder is not None else ""))]
    if twice := [one.run for number, one in enumerate(found) if one.run and one.run in {o.run for o in found[:number]}]:
        raise BadInput(f"{shown(twice[0])} is given twice", "base", "give each run once")
    return found if len(found) > 1 else next(iter(found), None)


def _read_base(base: Any) -> BaseRun | None:
    """Return the base run, given its folder or the stored `{run, config}`; None without a base.

    Raises:
        BadInput: the folder is not a run.
    """
    if base is None:
        return None
    if isinstance(base, Mapping) and isinstance(base.get("config"), Mapping) and isinstance(base.get("run"), str):
        try:
            return BaseRun(base["run"], load_config(_completed(literal(base["config"])), advise=False))
        except BadInput as error:
            raise error.at(f"base, {error.where}") from None
    if not isinstance(base, str | Path) or not str(base).strip():
        raise BadInput(f"expected the folder of a run, got {shown(base)}", "base", _BASE_FIX)
    file = Path(base) / RUN_FILE
    if not file.is_file():
        raise BadInput("not a run: it has no config.yaml", base, _BASE_FIX)
    return BaseRun(str(Path(base).resolve()), load_stored(file))


def read_start(start: Any) -> StartRun | None:
    """Return the run to start from, given its folder or the stored `{run, config, weights, grid}`; None without one.

    Raises:
        BadInput: the folder is not a trained run.
    """
    if start is None or isinstance(start, StartRun):
        return start
    if isinstance(start, Mapping):
        return _stored_start(start)
    if not isinstance(start, str | Path) or not str(start).strip():
        raise BadInput(f"expected the folder of a run, got {shown(start)}", "train.start_from", _START_FIX)
    folder = Path(start)
    if not (folder / RUN_FILE).is_file():
        raise BadInput("not a run: it has no config.yaml", start, _START_FIX)
    config = load_stored(folder / RUN_FILE)
    return StartRun(str(folder.resolve()), config, digest_of_weights(folder), _grid_of(folder))


def _stored_start(start: Mapping[Any, Any]) -> StartRun:
    """Return the run to start from as a configuration stores it. Raises BadInput if it is damaged."""
    run, config, weights, grid = (start.get(key) for key in ("run", "config", "weights", "grid"))
    if not (isinstance(run, str) and isinstance(config, Mapping) and isinstance(weights, str) and _is_grid(grid)):
        raise BadInput(f"expected the folder of a run, got {shown(dict(start))}", "train.start_from", _START_FIX)
    try:
        found = load_config(_completed(literal(config)), advise=False)
    except BadInput as error:
        raise error.at(f"train.start_from, {error.where}") from None
    return StartRun(run, found, weights, grid)


def digest_of_weights(folder: Path) -> str:
    """Return the SHA-256 of the weights of a finished run. Raises BadInput if they are missing or unreadable."""
    try:
        with open_regular(folder / WEIGHTS_FILE) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise BadInput("the run to start from is not fully trained", folder, "train it first") from None
    except OSError as error:
        raise BadInput(f"not readable ({error.strerror})", folder / WEIGHTS_FILE, "restore it from a copy") from None


def _grid_of(folder: Path) -> list[int] | None:
    """Return the grid of the data that a run was trained on, [y, x]; None if its card does not tell."""
    grid = read_json(folder / "card.json").get("grid")
    return grid if _is_grid(grid) else None


def _is_grid(grid: Any) -> bool:
    return grid is None or (isinstance(grid, list) and len(grid) == 2 and all(type(n) is int and n > 0 for n in grid))
