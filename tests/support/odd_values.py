"""Configurations drawn from the fields of the schema: usual values, values at the limits, and nonsense."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from math import inf, nan
from typing import Any

from hypothesis import strategies as st

from polarcast.hpc.config.schema import RunConfig
from polarcast.models.common.settings import Limits
from polarcast.models.registry import get_model

NONSENSE: list[Any] = [
    nan, inf, -inf, -1, 0, 10**30, -(10**30), 1e308, -1e-300, 0.5, True, None, "", " ", "x", "???", "${nope}", "${",
    "a\nb", "\x1b[2J", "../..", [], {}, [None], [[1]], [nan], ["x", "x"], {"a": {"b": [1]}}, b"\xff", 1j, object(),
]  # fmt: skip
FIXED = ("data.shards", "data.stage_to", "train.compile", "train.offload_optimizer", "train.track", "base", "model")
"""Fields whose valid values take minutes, or write elsewhere; only nonsense is drawn for them."""
_SMALL = 3
"""Integers are drawn up to their lower limit plus this, so that training takes milliseconds."""


def changes_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Draw changed values, by dotted key, of a configuration of one model: within the limits, or one nonsense too."""
    known = {**dict(leaves(RunConfig)), **dict(leaves(get_model(name).config, "model."))}
    within = [st.tuples(st.just(key), usual_values(field)) for key, field in known.items() if key not in FIXED]
    odd = [st.tuples(st.just(key), odd_values(field)) for key, field in known.items()]
    usual = st.lists(st.one_of(within), min_size=1, max_size=6).map(dict)
    return st.one_of(usual, usual, st.builds(lambda a, b: a | dict([b]), usual, st.one_of(odd)))


def usual_values(field: "Field[Any]") -> st.SearchStrategy[Any]:
    """Draw a value within the limits of a field, often at one of them, that makes a run small."""
    limits, default = field.metadata.get("limits", Limits()), _default(field)
    if isinstance(default, list) or "list" in str(field.type):
        one = _single(default[0] if default else "x", limits)
        longest = min(limits.longest, limits.shortest + 2)
        return st.lists(one, min_size=limits.shortest, max_size=longest, unique=limits.distinct)
    return _single(default, limits)


def odd_values(field: "Field[Any]") -> st.SearchStrategy[Any]:
    """Draw nonsense for a field, or a number just outside its limits."""
    limits: Limits = field.metadata.get("limits", Limits())
    outside = [limits.least and limits.least - 1, limits.most and limits.most * 2 + 1, limits.above, limits.below]
    return st.sampled_from([*NONSENSE, *(value for value in outside if value is not None)])


def _default(field: "Field[Any]") -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Return the tree of values with dotted keys; a value that is in the way of a longer key is dropped."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *parts, last = key.split(".")
        at = tree
        for part in parts:
            inner = at.get(part)
            at[part] = at = inner if isinstance(inner, dict) else {}
        at[last] = value
    return tree


def leaves(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, "Field[Any]"]]:
    """Yield every field of a dataclass and of those inside it, with its dotted key."""
    plain = kind()
    for field in fields(kind):
        value = getattr(plain, field.name)
        if is_dataclass(value):
            yield from leaves(type(value), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field


def _single(like: Any, limits: Limits) -> st.SearchStrategy[Any]:
    if limits.choices and not isinstance(like, int | float):
        return st.sampled_from(list(limits.choices))
    if isinstance(like, bool):
        return st.booleans()
    if isinstance(like, int):
        least = int(limits.least or 0)
        return st.integers(least, min(least + _SMALL, int(limits.most or 2**62)))
    if isinstance(like, str):
        return st.sampled_from(["rmse", "csi@threshold=10"])
    low, high = (
        next((bound for bound in pair if bound is not None), None)
        for pair in ((limits.least, limits.above), (limits.most, limits.below))
    )
    low_open, high_open = limits.above is not None, limits.below is not None
    edges = st.sampled_from([float(edge) for edge in (limits.least, limits.most) if edge is not None] or [0.5])
    return st.one_of(
        edges,
        st.floats(low, high, exclude_min=low_open, exclude_max=high_open),
        st.floats(low, 2 + (low or 0), exclude_min=low_open).filter(lambda x: high is None or x < high),
    )
