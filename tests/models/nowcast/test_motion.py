"""Motion estimation and advection of echo, compared with SciPy and pysteps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import shift

from polarcast.models.nowcast.motion import advect, backward_displacement, motion
from polarcast.models.nowcast.pysteps_bridge import contained, pysteps_library
from tests.support.moving_storm import centre, csi, storm


def steady(u: float, v: float) -> torch.Tensor:
    """Return uniform motion, (n = 1, 2, y, x), on a grid that coarse pixels do not divide."""
    return torch.tensor([u, v]).view(1, 2, 1, 1).expand(1, 2, 23, 30)


def extrapolate(field: torch.Tensor, velocity: torch.Tensor, frames: int) -> torch.Tensor:
    """Extrapolate a field (n, y, x) to the lead frames, (n, frames, y, x)."""
    return advect(field[:, None], backward_displacement(velocity, frames))[:, :, 0]


def frames_of(velocity: tuple[int, int], frames: int = 6, change: float = 0.3) -> torch.Tensor:
    """Return a moving storm scaled to 0–1, (n = 1, t, y, x)."""
    return torch.from_numpy(storm(frames, 64, velocity, change)).float()[None] / 65


@given(u=st.floats(-3, 3), v=st.floats(-3, 3))
def test_steady_motion_shifts_a_field_with_zeros_outside(u: float, v: float) -> None:
    field = torch.rand(1, 23, 30, generator=torch.Generator().manual_seed(0))
    ahead = extrapolate(field, steady(u, v), 3)
    for frame in range(3):
        displaced = ((frame + 1) * v, (frame + 1) * u)
        # This mode of SciPy interpolates toward zeros outside.
        expected = shift(field[0].double().numpy(), displaced, order=1, mode="grid-constant")
        assert np.abs(ahead[0, frame].numpy() - expected).max() < 1e-4


def vortex(side: int, degrees: float) -> torch.Tensor:
    """Return rigid rotation about the center, from x toward y, (n = 1, 2, y, x)."""
    from_middle = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(from_middle, from_middle, indexing="ij")
    return math.radians(degrees) * torch.stack([-y, x])[None]


@settings(max_examples=10, deadline=None)
@given(degrees=st.floats(-9, 9), radius=st.floats(5, 20))
def test_echo_in_a_vortex_follows_a_circle(degrees: float, radius: float) -> None:
    side, frames = 64, 10
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    middle = (side - 1) / 2
    blob = 100 * torch.exp(-((x - middle - radius) ** 2 + (y - middle) ** 2) / 18)
    ahead = extrapolate(blob[None], vortex(side, degrees), frames)[0, -1].numpy()
    turned = math.radians(degrees * frames)
    arrived = middle + radius * np.array([math.cos(turned), math.sin(turned)])
    assert np.abs(centre(ahead) - arrived).max() < 0.3
    assert ahead.sum() == pytest.approx(float(blob.sum()), rel=0.05)


def test_curved_advection_equals_that_of_pysteps() -> None:
    field, velocity = torch.from_numpy(storm(1, 64, (0, 0), 0.0)).float(), vortex(64, 5)
    with contained():
        theirs = np.nan_to_num(
            pysteps_library().extrapolation(field[0].double().numpy(), velocity[0].double().numpy(), 10)
        )
    ours = extrapolate(field, velocity, 10)[0].numpy()
    inside = (slice(None), slice(12, 52), slice(12, 52))
    assert np.abs(ours - theirs)[inside].max() < 1e-3


@settings(max_examples=15, deadline=None)
@given(u=st.integers(-5, 5), v=st.integers(-5, 5))
def test_motion_of_an_evolving_storm_is_estimated(u: int, v: int) -> None:
    frames = frames_of((u, v), frames=4)
    velocity = motion(frames)[0]
    # Pixels of the storm in the last frame; it may wrap around the edges.
    there = frames[0, -1] > 0.3
    assert (velocity[:, there].mean(-1) - torch.tensor([u, v])).abs().max() < 0.35


def test_motion_follows_the_newest_frames() -> None:
    before, after = frames_of((3, 0), frames=5, change=0.0), frames_of((0, 3), frames=5, change=0.0)
    # The storm turns down after it has moved twelve pixels to the right.
    frames = torch.cat([before, after.roll(12, -1)[:, 1:]], 1)
    there = frames[0, -1] > 0.3
    u, v = motion(frames)[0][:, there].mean(-1)
    assert v > 2 * u > 0


def test_nowcast_is_close_to_that_of_pysteps() -> None:
    zh = storm(12, 64, (2, 1), change=1.0)
    observed, truth = zh[:6], zh[11]
    with contained():
        velocity = pysteps_library().lucas_kanade(observed)
        theirs = np.nan_to_num(pysteps_library().extrapolation(observed[-1], velocity, 6))[-1]
    frames = torch.from_numpy(observed).float()[None] / 65
    ours = 65 * extrapolate(frames[:, -1], motion(frames), 6)[0, -1].numpy()
    # The storm has moved twelve pixels to the right and six down.
    assert np.abs(centre(ours) - centre(theirs)).max() < 1
    assert csi(ours, truth) > 0.9 * csi(theirs, truth) > 0.7


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_motion_rotates_with_the_grid(turns: int) -> None:
    frames = frames_of((3, 1))
    velocity = motion(frames)[0]
    for _ in range(turns):
        # After a counterclockwise turn, motion along x becomes motion against y, which points down.
        velocity = torch.stack([velocity[1], -velocity[0]]).rot90(1, (-2, -1))
    torch.testing.assert_close(motion(frames.rot90(turns, (-2, -1)))[0], velocity, atol=2e-3, rtol=0)


def test_no_echo_or_no_change_gives_zero_motion() -> None:
    assert not motion(torch.zeros(2, 3, 32, 32)).any()
    still = frames_of((0, 0), change=0.0)
    assert motion(still).abs().max() < 1e-3


def test_windows_are_independent() -> None:
    both = torch.cat([frames_of((3, 1)), frames_of((-2, 2))])
    torch.testing.assert_close(motion(both)[1:], motion(both[1:]))


@pytest.mark.parametrize("side", [8, 16])
def test_small_grids_are_supported(side: int) -> None:
    frames = torch.rand(1, 3, side, side)
    assert extrapolate(frames[:, -1], motion(frames), 2).shape == (1, 2, side, side)
