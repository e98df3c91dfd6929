"""Digest of a configuration: a hash of all settings that affect the result.

Each field declares in its metadata whether it is hashed (see `models.common.settings`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass, replace
from typing import Any

from polarcast.hpc.config.schema import PROPORTIONS, RunConfig
from polarcast.models.common.settings import ALWAYS, IF_CHANGED, NEVER
from polarcast.models.registry import get_model


def digest(config: RunConfig) -> str:
    """Return the SHA-256 of all settings that affect the result of a run, including those of its base.

    Runs with the same digest and data give the same result, regardless of storage location and parallelism. A run that
    starts from trained weights is known by these. As long as they are not trained, as in a suite, their configuration
    takes their place.
    """
    content = _content(type(config), vars(config))
    model = get_model(config.model["name"])
    content["model"] = {"name": config.model["name"], **_content(model.config, config.model)}
    content.pop("match_by", None)
    if model.has_widths and config.solves_widths and config.match_by == PROPORTIONS:
        # Only where it decides the widths: all other runs keep the digest that they had before this setting.
        content["match_by"] = PROPORTIONS
    if config.base:
        of_bases = [digest(base.config) for base in config.bases]
        content["base"] = of_bases if isinstance(config.base, list) else of_bases[0]
    if start := config.start:
        content["start_from"] = start.weights or {"untrained": digest(start.config)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def same_run(one: RunConfig, other: RunConfig) -> bool:
    """Return whether two configurations have one digest; weights to start from count only if both know theirs."""
    if digest(one) == digest(other):
        return True
    if not (waits_for_weights(one) or waits_for_weights(other)):
        return False
    return digest(_before_training(one)) == digest(_before_training(other))


def waits_for_weights(config: RunConfig) -> bool:
    """Return whether the run, or one it builds on, starts from weights that were not trained when it was configured."""
    start = config.start
    is_waiting = start is not None and (not start.weights or waits_for_weights(start.config))
    return is_waiting or any(waits_for_weights(base.config) for base in config.bases)


def _before_training(config: RunConfig) -> RunConfig:
    """Return the configuration as it was before the runs that it starts from were trained."""
    start = config.start and replace(config.start, weights="", config=_before_training(config.start.config))
    bases = [replace(base, config=_before_training(base.config)) for base in config.bases]
    return config.with_start(start).with_bases(bases)


def _content(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hashed values of a dataclass as a nested dict; renamed fields keep their former name."""
    plain, content = kind(), dict[str, Any]()
    for field in fields(kind):
        value, default = values[field.name], getattr(plain, field.name)
        if is_dataclass(default):
            if part := _content(type(value), vars(value)):
                content[field.name] = part
        elif _is_hashed(field, value, default):
            content[field.metadata.get("was") or field.name] = value
    return content


def _is_hashed(field: "Field[Any]", value: Any, default: Any) -> bool:
    rules: Mapping[str, bool] = {ALWAYS: True, NEVER: False, IF_CHANGED: value != default}
    return rules[field.metadata.get("digest", IF_CHANGED)]
