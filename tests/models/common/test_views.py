"""Views of the radar fields, compared with SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_interp_spline
from scipy.ndimage import sobel

from polarcast.models.common.views import VIEWS, along_x, along_y, edges, stretch

FIELDS = torch.rand(2, 3, 2, 1, 24, 17, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2


@pytest.mark.parametrize("name", VIEWS)
def test_views_keep_the_shape(name: str) -> None:
    assert VIEWS[name](FIELDS).shape == FIELDS.shape


def test_edges_equal_the_mean_of_two_scipy_sobel_responses() -> None:
    for field, shown in zip(FIELDS.double().flatten(0, 3), edges(FIELDS.double()).flatten(0, 3), strict=True):
        theirs = sum(sobel(field.numpy(), axis, mode="nearest") for axis in (0, 1)) / 2
        np.testing.assert_allclose(shown.numpy(), theirs, atol=1e-12)


def test_gradients_equal_those_of_numpy() -> None:
    fields = FIELDS.double()
    for view, axis in ((along_y, -2), (along_x, -1)):
        np.testing.assert_allclose(view(fields).numpy(), np.gradient(fields.numpy(), axis=axis), atol=1e-12)


def test_edges_of_a_constant_field_are_zero() -> None:
    assert not edges(torch.full_like(FIELDS, 0.7)).abs().gt(1e-6).any()


def test_stretch_equals_a_linear_scipy_spline_through_the_knots() -> None:
    spline = make_interp_spline([0, 0.3, 0.7, 1], [0, 0.15, 0.85, 1], k=1)
    np.testing.assert_allclose(stretch(FIELDS.double()).numpy(), spline(FIELDS.double().numpy()), atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1, 2), st.floats(-1, 2))
def test_stretch_is_monotonic_and_continuous(a: float, b: float) -> None:
    low, high = stretch(torch.tensor([min(a, b), max(a, b)], dtype=torch.float64)).tolist()
    assert 0.5 * abs(a - b) - 1e-9 <= high - low <= 1.75 * abs(a - b) + 1e-9


def test_stretch_increases_the_variance() -> None:
    middling = FIELDS.clamp(0.2, 0.8)
    assert stretch(middling).var() > 1.5 * middling.var()
