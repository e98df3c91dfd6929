"""Fields of configurations, and whether a field's value is part of a run's digest."""

import copy
from dataclasses import field
from functools import partial
from typing import Any

ALWAYS = "always"
"""The value is hashed whatever it is: for fields that the first runs had. Do not use it for new fields."""
IF_CHANGED = "if changed"
"""The value is hashed where it differs from the default; the rule for plain fields, too.

A field added later therefore leaves the digest of every earlier run as it was.
"""
NEVER = "never"
"""The value shapes no result: where data come from, how steps are computed and recorded."""


def setting(default: Any, digest: str = IF_CHANGED, was: str = "") -> Any:
    """Return a dataclass field.

    Args:
        default: Its default value; a list or dict is copied for each instance.
        digest: Whether the value is part of the digest: ALWAYS, IF_CHANGED or NEVER.
        was: Former name. It is still read, and it is the name that is hashed.
    """
    metadata = {"digest": digest, "was": was}
    if isinstance(default, list | dict):
        return field(default_factory=partial(copy.copy, default), metadata=metadata)
    return field(default=default, metadata=metadata)
