"""Messages between ranks as bytes: plain values and arrays, written as JSON.

Unlike a pickle, a message that comes from somebody else can't run code.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

_LENGTH_BYTES = 8
_KINDS = "biuf"
"""Kinds of numpy types that a message may hold: booleans and numbers."""


def pack(item: Any) -> bytes:
    """Return an item as bytes: None, booleans, numbers, text, paths, arrays of numbers, lists, tuples and dicts.

    Raises:
        TypeError: the item holds something else.
    """
    arrays: list[bytes] = []
    text = json.dumps(_as_json(item, arrays)).encode()
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "big"), text, *arrays])


def unpack(content: bytes) -> Any:
    """Return the item of `pack`.

    Raises:
        ValueError: the content is not a message.
    """
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "big")
    try:
        item, rest = _of_json(json.loads(content[_LENGTH_BYTES:end]), memoryview(content)[end:])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("not a message of a rank") from None
    if len(rest):
        raise ValueError("not a message of a rank")
    return item


def _as_json(item: Any, arrays: list[bytes]) -> Any:
    if item is None or isinstance(item, bool | int | float | str):
        return item
    if isinstance(item, np.generic) and item.dtype.kind in _KINDS:
        return item.item()
    if isinstance(item, np.ndarray) and item.dtype.kind in _KINDS:
        arrays.append(item.tobytes())
        return {"array": [item.dtype.str, item.shape]}
    if isinstance(item, Path):
        return {"path": str(item)}
    if isinstance(item, list):
        return [_as_json(one, arrays) for one in item]
    if isinstance(item, tuple):
        return {"tuple": [_as_json(one, arrays) for one in item]}
    if isinstance(item, dict):
        return {"dict": [[_as_json(key, arrays), _as_json(value, arrays)] for key, value in item.items()]}
    raise TypeError(f"a message can't hold {type(item).__name__}")


def _of_json(content: Any, arrays: memoryview) -> tuple[Any, memoryview]:
    """Return an item, and the bytes of the arrays that follow it."""
    if isinstance(content, list):
        return _items(content, arrays)
    if not isinstance(content, dict):
        return content, arrays
    [(kind, value)] = content.items()
    if kind == "array":
        return _array(value[0], value[1], arrays)
    if kind == "path":
        return Path(value), arrays
    items, arrays = _items(value, arrays)
    return {"tuple": tuple, "dict": dict}[kind](items), arrays


def _items(contents: list[Any], arrays: memoryview) -> tuple[list[Any], memoryview]:
    items = []
    for content in contents:
        item, arrays = _of_json(content, arrays)
        items.append(item)
    return items, arrays


def _array(code: str, shape: list[int], arrays: memoryview) -> tuple[np.ndarray, memoryview]:
    kind = np.dtype(code)
    size = kind.itemsize * int(np.prod(shape, dtype=object))
    if kind.kind not in _KINDS or min(shape, default=0) < 0 or size > len(arrays):
        raise ValueError
    # A copy: an array over received bytes would be read-only, and keep all of them alive.
    return np.frombuffer(arrays[:size], kind).reshape(shape).copy(), arrays[size:]
