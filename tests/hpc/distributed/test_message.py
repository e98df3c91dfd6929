"""Messages between ranks."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.distributed.message import pack, unpack

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))
items = st.recursive(
    values,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.integers() | st.text("ab"), inner),
)


@given(items)
def test_items_arrive_unchanged(item: Any) -> None:
    assert repr(unpack(pack(item))) == repr(item)


@pytest.mark.parametrize("kind", ["f8", ">f4", "i2", "u1", "?"])
def test_arrays_arrive_unchanged(kind: str) -> None:
    one, none = np.arange(6).reshape(2, 3).astype(kind)[:, ::2], np.zeros((0, 4), kind)
    [[first, path], rest] = unpack(pack([(one, Path("a b")), {"n": none}]))
    np.testing.assert_array_equal(first, one, strict=True)
    assert first.flags.writeable
    assert (path, rest["n"].shape, rest["n"].dtype) == (Path("a b"), (0, 4), none.dtype)
    assert unpack(pack(np.float32(2.5))) == 2.5
    assert math.isnan(unpack(pack(float("nan"))))


@pytest.mark.parametrize("item", [object(), {1, 2}, np.array([object()]), b"bytes"])
def test_other_types_are_rejected(item: Any) -> None:
    with pytest.raises(TypeError, match="a message can't hold"):
        pack(item)


@given(st.binary() | st.builds(lambda text: len(text).to_bytes(8, "big") + text, st.binary()))
def test_other_bytes_raise_no_other_error(content: bytes) -> None:
    with suppress(ValueError):
        unpack(content)


INVALID = ['{"array": ["|O", [1]]}', '{"array": ["<f8", [-1]]}', '{"array": ["<f8", [1e9]]}', '{"dict": 3}',
           '{"array": ["<f8", [3]]}', '{"exec": ["1"]}', "{}", "[" * 9999]  # fmt: skip


@pytest.mark.parametrize("text", INVALID)
def test_invalid_messages_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="not a message of a rank"):
        unpack(len(text).to_bytes(8, "big") + text.encode() + bytes(16))
