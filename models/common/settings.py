"""Configuration fields: their role in the digest of a run, and the values that they accept."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
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
WIDEST = 16_384
"""Most channels of a layer; a convolution between two such layers has 10 GB of weights."""


@dataclass(frozen=True)
class Limits:
    """Values that a field accepts, checked by `polarcast.hpc.config.validate`.

    Attributes:
        least: Smallest number.
        most: Largest number.
        above: Number that must be exceeded.
        below: Number that must not be reached.
        choices: Accepted texts; empty accepts any text that is not empty.
        shortest: Smallest length of a list.
        longest: Largest length of a list.
        distinct: Whether the values of a list must differ.

    Limits of numbers and choices apply to each value of a list. Numbers that are not finite are never accepted.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: Sequence[str] = ()
    shortest: int = 0
    longest: int = 10_000
    distinct: bool = False


def setting(default: Any, digest: str = IF_CHANGED, was: str = "", **limits: Any) -> Any:
    """Return a dataclass field with a digest rule and limits.

    Args:
        default: Default value; a list or dict is copied for each instance.
        digest: Digest rule: ALWAYS, IF_CHANGED or NEVER.
        was: Former name, which is still accepted and is the name that is hashed.
        limits: Attributes of `Limits`, such as `least=1` or `choices=("a", "b")`.
    """
    metadata = {"digest": digest, "was": was, "limits": Limits(**limits)}
    if isinstance(default, list | dict):
        return field(default_factory=partial(copy.copy, default), metadata=metadata)
    return field(default=default, metadata=metadata)


def widths_setting(default: list[int], shortest: int = 1, longest: int = 10) -> Any:
    """Return the field of the channels of each level of a network; it is always hashed."""
    return setting(default, ALWAYS, least=1, most=WIDEST, shortest=shortest, longest=longest)
