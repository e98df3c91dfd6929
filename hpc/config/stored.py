"""Read configurations that are stored in runs. They may be made by others, so they are data, never instructions."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from polarcast.data.errors import BadInput, shown
from polarcast.data.files import open_regular
from polarcast.data.folder_kind import RUN_FILE
from polarcast.data.secrets import redacted
from polarcast.data.shards.source import ShardSource

MAX_BYTES = 2**17
"""Size of the largest file; a configuration with three nested base runs has 10 kB."""
MAX_DEPTH = 40
WEIGHTS_FILE = "model.safetensors"
"""Weights of a finished run."""
_BESIDE = ("provenance.json", "log.jsonl", "checkpoints", WEIGHTS_FILE, "scores.parquet")
"""Files of a run; one of them is next to its configuration."""
_INTERPOLATION = "${"
_ESCAPED = re.compile(r"(\\*)\$\{")
_FIX = "copy the run again; a configuration has keys and plain values"


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Loader of plain values; dates stay text. That of libyaml, where it is built in, takes a sixth of the time."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_stored(path: Path, trust: bool = False, data: bytes | None = None) -> dict[str, Any]:
    """Read a stored configuration as plain values.

    Args:
        path: Its YAML file.
        trust: Whether texts may hold `${`, which is then kept as text; nothing is ever interpolated.
        data: Content of the file, if it is known.

    Returns:
        Nested dicts and lists, whose texts mean themselves to OmegaConf.

    Raises:
        BadInput: the file is damaged, too large, nested too deeply, has aliases, or a text holds `${`.
    """
    content = _parsed(bytes_of(path) if data is None else data, path)
    if not isinstance(content, dict):
        raise BadInput("expected keys and values", path, _FIX)
    for key, text in _texts(content):
        if _INTERPOLATION in text and not trust:
            raise BadInput(
                f"{shown(redacted(text))} holds ${{, and stored configurations are not interpolated",
                f"{path}, {key}",
                "write the value itself, or add --trust if you trust this run",
            )
    plain: dict[str, Any] = literal(content)
    return plain


def is_stored(path: Path) -> bool:
    """Return whether a YAML file is the configuration of a run, not one that the user wrote."""
    return path.name == RUN_FILE and any((path.parent / name).exists() for name in _BESIDE)


def is_remote(shards: object) -> bool:
    """Return whether shards are read through a command or from a server, not from a local folder."""
    return isinstance(shards, str) and not ShardSource(shards.strip().lower()).is_local


def bytes_of(path: Path) -> bytes:
    """Return the content of a stored configuration. Raises BadInput if it can't be read, or is too large."""
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null in the path
        raise _damaged(error, path) from None
    if len(data) > MAX_BYTES:
        raise BadInput(f"is larger than {MAX_BYTES} bytes", path, _FIX)
    return data


def _parsed(data: bytes, path: Path) -> Any:
    try:
        text = data.decode()
        _check_structure(text, path)
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _damaged(error, path) from None


def _damaged(error: Exception, path: Path) -> BadInput:
    return BadInput(f"damaged ({str(error).splitlines()[0]})", path, _FIX)


def _check_structure(text: str, path: Path) -> None:
    """Raise BadInput for aliases, which may stand for any amount of memory, and for deep nesting."""
    depth = 0
    for event in yaml.parse(text, _PlainLoader):
        if isinstance(event, yaml.AliasEvent):
            raise BadInput("has YAML aliases", path, _FIX)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise BadInput(f"is nested more than {MAX_DEPTH} levels deep", path, _FIX)


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text, keys included, with its dotted key."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _texts(name, key)
            yield from _texts(value, f"{key}.{name}".removeprefix("."))
    elif isinstance(content, list):
        for item in content:
            yield from _texts(item, key)


def literal(content: Any) -> Any:
    """Return nested values that OmegaConf reads as they are: `${` is text."""
    if isinstance(content, dict):
        return {key: literal(value) for key, value in content.items()}
    if isinstance(content, list):
        return [literal(item) for item in content]
    return _ESCAPED.sub(r"\1\1\\${", content) if isinstance(content, str) else content
