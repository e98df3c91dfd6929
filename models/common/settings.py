"""Configuration fields and their role in the digest of a run."""

import copy
from dataclasses import field
from functools import partial
from typing import Any

ALWAYS = "always"
"""Always hash the value. For the fields of the first runs only; do not use it for new fields."""
IF_CHANGED = "if changed"
"""Hash the value if it differs from the default; also the rule for plain dataclass fields.

Adding a field therefore does not change the digests of earlier runs.
"""
NEVER = "never"
"""Never hash the value: it does not affect results, such as data location, compute settings or logging."""


def setting(default: Any, digest: str = IF_CHANGED, was: str = "") -> Any:
    """Return a dataclass field with a digest rule.

    Args:
        default: Default value; a list or dict is copied for each instance.
        digest: Digest rule: ALWAYS, IF_CHANGED or NEVER.
        was: Former name, which is still accepted and is the name that is hashed.
    """
    metadata = {"digest": digest, "was": was}
    if isinstance(default, list | dict):
        return field(default_factory=partial(copy.copy, default), metadata=metadata)
    return field(default=default, metadata=metadata)
