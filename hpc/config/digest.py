"""Digest of a configuration: the name of everything that shapes a result.

Each field says itself whether its value is hashed (`models.common.settings`): there is no list of fields here.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from polarcast.hpc.config.load import model_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.models.common.settings import ALWAYS, IF_CHANGED, NEVER


def digest(config: RunConfig) -> str:
    """Return the SHA-256 of all settings that shape the result of a run, those of its base included.

    Two runs of the same digest and the same data are the same run, wherever their data lie and however their steps are
    computed.
    """
    content = _content(config)
    content["model"] = {"name": config.model["name"], **_content(model_config(config))}
    if config.base:
        content["base"] = digest(config.base.config)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content(config: Any) -> dict[str, Any]:
    """Hashed values of a dataclass by the names that they are hashed under; those of its parts as dictionaries."""
    plain = type(config)()
    content: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value) and field.name != "base":
            if part := _content(value):
                content[field.name] = part
        elif _is_hashed(field, value, getattr(plain, field.name)):
            content[field.metadata.get("was") or field.name] = value
    return content


def _is_hashed(field: "Field[Any]", value: Any, default: Any) -> bool:
    rules: Mapping[str, bool] = {ALWAYS: True, NEVER: False, IF_CHANGED: value != default}
    return rules[field.metadata.get("digest", IF_CHANGED)]
