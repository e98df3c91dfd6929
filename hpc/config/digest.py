"""Digest of a configuration: the name of everything that shapes a result.

Each field says itself whether its value is hashed (`models.common.settings`): there is no list of fields here.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from polarcast.hpc.config.schema import RunConfig
from polarcast.models.common.settings import ALWAYS, IF_CHANGED, NEVER
from polarcast.models.registry import get_model


def digest(config: RunConfig) -> str:
    """Return the SHA-256 of all settings that shape the result of a run, those of its base included.

    Two runs of the same digest on the same data are the same run, wherever their data are stored and however their
    steps are computed.
    """
    content = _content(type(config), vars(config))
    content["model"] = {"name": config.model["name"], **_content(get_model(config.model["name"]).config, config.model)}
    if config.base:
        content["base"] = digest(config.base.config)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hashed values of a dataclass by the names that they are hashed under, nested as its parts are."""
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
