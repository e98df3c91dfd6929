"""Digest of a configuration: names everything that shapes a result."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from polarcast.hpc.config.load import config_of
from polarcast.hpc.config.schema import RunConfig

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


def digest(config: RunConfig) -> str:
    """SHA-256 of everything that shapes the result; where the shards lie does not."""
    content = config.to_dict()
    for key in _ONLY_WHERE:
        del content["data"][key]
    for key in ("retries", "stall_seconds"):
        del content["data"]["stream"][key]
    for key in _ONLY_HOW:
        del content["train"][key]
    if content["base"]:
        content["base"] = digest(config_of(content["base"]))
    _forget_defaults(content)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
