"""Conversion to half precision is bit-identical to numpy's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.shards.half import Halver


def rounded(values: np.ndarray) -> np.ndarray:
    out = np.full(values.shape, 7, np.float16)
    Halver(values.size)(values, out)
    return out


def same(values: np.ndarray) -> None:
    np.testing.assert_array_equal(rounded(values).view(np.uint16), values.astype(np.float16).view(np.uint16))


@given(st.lists(st.floats(-65504, 65504, width=32), min_size=1, max_size=50))
def test_any_number_is_rounded_like_numpy(values: list[float]) -> None:
    same(np.array(values, np.float32))


def test_every_half_and_the_midpoints_between_them() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    exact = halves[np.isfinite(halves)].astype(np.float32)
    same(exact)
    size = np.sort(np.unique(np.abs(exact)))
    midpoints = ((size[1:].astype(np.float64) + size[:-1]) / 2).astype(np.float32)
    for values in (midpoints, np.nextafter(midpoints, np.float32(0)), np.nextafter(midpoints, np.float32(1e9))):
        same(values)
        same(-values)


def test_shapes_and_signs_of_zero_are_kept() -> None:
    values = np.array([[0.0, -0.0], [1e-9, -1e-9]], np.float32)
    same(values)
