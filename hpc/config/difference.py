"""First setting in which two configurations differ, among those that affect the result."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from polarcast.data.secrets import redacted
from polarcast.hpc.config.schema import RunConfig
from polarcast.models.common.settings import NEVER
from polarcast.models.registry import get_model

_ABSENT = "none"


def first_difference(known: RunConfig, given: RunConfig) -> str:
    """Return the first setting that affects the result and differs, as `train.steps=100, got 200`; empty if none."""
    before, after = (dict(_settings(config)) for config in (known, given))
    for key in {**before, **after}:
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old != new:
            return redacted(f"{key}={old}, got {new}")
    return ""


def _settings(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of all settings that affect the result, the base's last."""
    yield from _fields(RunConfig, vars(config), "")
    name = config.model["name"]
    yield "model.name", name
    yield from _fields(get_model(name).config, config.model, "model.")
    several = isinstance(config.base, list)
    yield "base", f"{len(config.bases)} runs" if several else "a run" if config.base else _ABSENT
    for number, base in enumerate(config.bases):
        prefix = f"base.{number}" if several else "base"
        yield from ((f"{prefix}.{key}", value) for key, value in _settings(base.config))
    start = config.start
    yield "train.start_from", (f"weights {start.weights[:8]}" if start.weights else "a run") if start else _ABSENT


def _fields(kind: type[Any], values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for field in fields(kind):
        value = values[field.name]
        if is_dataclass(value) and field.name not in ("base", "start_from"):
            yield from _fields(type(value), vars(value), f"{prefix}{field.name}.")
        elif field.name not in ("model", "base") and field.metadata.get("digest") != NEVER:
            yield f"{prefix}{field.name}", value
