"""A FURENet that moves what it has seen: where things go, and that it learns to send them there."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from moving_storm import LEAD, SEEN, storm
from scipy.ndimage import shift

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Inputs
from polarcast.models.nowcast.advected import Advected, AdvectedConfig, moved, smoothed


def steady(u: float, v: float, side: int = 24) -> torch.Tensor:
    """The same motion everywhere, (b = 1, 2, z = 1, y, x)."""
    return torch.tensor([u, v]).view(1, 2, 1, 1, 1).expand(1, 2, 1, side, side)


def field(side: int = 24) -> torch.Tensor:
    return torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))


@given(u=st.floats(-3, 3), v=st.floats(-3, 3))
def test_steady_motion_shifts_a_field_by_so_many_pixels_a_frame_and_nothing_comes_in(u: float, v: float) -> None:
    ahead = moved(field(), steady(u, v), 3)
    for frame in range(3):
        displaced = ((frame + 1) * v, (frame + 1) * u)
        # scipy's way of interpolating towards zeros outside.
        expected = shift(field()[0, 0].double().numpy(), displaced, order=1, mode="grid-constant")
        assert np.abs(ahead[0, frame, 0].numpy() - expected).max() < 1e-4


def test_each_height_and_sample_moves_with_its_own_motion() -> None:
    fields = torch.rand(2, 3, 16, 16)
    motion = torch.arange(12.0).view(2, 2, 3, 1, 1).expand(2, 2, 3, 16, 16)
    ahead = moved(fields, motion, 2)
    for b in range(2):
        for z in range(3):
            alone = moved(fields[b : b + 1, z : z + 1], motion[b : b + 1, :, z : z + 1], 2)
            torch.testing.assert_close(ahead[b : b + 1, :, z : z + 1], alone)


def test_motion_is_smooth_and_a_steady_one_stays_what_it_is() -> None:
    torch.testing.assert_close(smoothed(steady(1.5, -2.0, 40)), steady(1.5, -2.0, 40))
    torch.testing.assert_close(smoothed(steady(1.5, -2.0, 6)), steady(1.5, -2.0, 6))
    rough = torch.randn(1, 2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert smoothed(rough).diff(dim=-1).abs().max() < 0.05 * rough.diff(dim=-1).abs().max()


def test_it_learns_to_send_a_storm_where_it_goes() -> None:
    torch.manual_seed(0)
    ways = [(2, 1), (-2, 0), (1, -2), (0, 2), (-1, -1), (2, -1), (-2, 2), (1, 1)]
    frames = torch.from_numpy(np.stack([storm(SEEN + LEAD, 64, way, change=0.0) for way in ways])).float()[:, :, None]
    number = torch.arange(len(ways))
    batch = Batch(frames[:, :SEEN, None], None, number, number, ("zh",), (3.0,), future=frames[:, SEEN:])
    model = Advected(AdvectedConfig(widths=[8, 16, 24, 32], squeeze=4), Inputs(("zh",), (3.0,), SEEN, LEAD))
    steps = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(200):
        steps.zero_grad()
        model.loss(batch).backward()
        steps.step()
    in_motion, _ = model.parts(batch)
    target, last = batch.coming_zh / 65, frames[:, SEEN - 1 : SEEN] / 65
    assert (in_motion - target).square().mean() < 0.1 * (last - target).square().mean()


def test_without_zh_there_is_nothing_to_move() -> None:
    with pytest.raises(BadInput, match="what is moved is zh"):
        Advected(AdvectedConfig(), Inputs(("zdr", "kdp"), (3.0,), SEEN, LEAD))
