"""What polar and gridded ODIM HDF5 files share: numbered groups, attributes, texts."""

from collections.abc import Iterator
from typing import Any

import numpy as np


def numbered_groups(group: Any, prefix: str) -> Iterator[str]:
    """Yield the names `prefix1`, `prefix2`, … of a group in the order of their numbers."""
    numbers = [name.removeprefix(prefix) for name in group if name.startswith(prefix)]
    yield from (f"{prefix}{number}" for number in sorted(filter(str.isdigit, numbers), key=int))


def attributes_of(group: Any, name: str) -> dict[str, Any]:
    """Return the attributes of a subgroup, such as `what`; none if it is missing."""
    return dict(group[name].attrs) if name in group else {}


def text_of(value: Any) -> str:
    """Return an attribute as text; it may be missing, bytes, text, or an array of either."""
    first = np.ravel(np.asarray("" if value is None else value))
    one = first[0] if len(first) else ""
    return (one.decode("ascii", "replace") if isinstance(one, bytes) else str(one)).strip("\0 ")
