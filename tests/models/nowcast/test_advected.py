"""A FURENet on top of extrapolation: what it knows before it has learnt anything, and what is left for it to learn."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polarcast.data.errors import BadInput
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.advected import Advected, AdvectedConfig
from tests.support.moving_storm import LEAD, SEEN, csi, storm, window


def made(
    variables: tuple[str, ...] = ("zh",), heights: int = 1, lead: int = LEAD, scaling: str = "range", **carrying: Any
) -> Advected:
    torch.manual_seed(0)
    config = AdvectedConfig(widths=[8, 16], squeeze=4, scaling=scaling, **carrying)
    return Advected(config, InputSpec(variables, tuple(range(1, 1 + heights)), SEEN, lead)).eval()


def saying(model: Advected, kept: float, change: float) -> Advected:
    """Says the same of every pixel at every lead time: how much echo is kept (a logit), and what is added to it."""
    last = model.net.decoders[-1]
    for layer in (last.resize, last.second):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        last.second.bias += torch.tensor([kept, change]).repeat_interleave(len(last.second.bias) // 2)
    return model


def test_where_all_is_kept_and_nothing_added_the_storm_is_where_its_motion_takes_it() -> None:
    zh = storm(SEEN + 6, velocity=(3, -2))
    ahead = saying(made(lead=6), 20, 0).forecast(window(zh[:SEEN]))[0, 0, :, 0].detach().numpy()
    assert csi(ahead[-1], zh[-1]) > 0.75 > 2 * csi(zh[SEEN - 1], zh[-1])


def test_what_is_not_kept_is_what_is_said_anew() -> None:
    ahead = saying(made(), -20, 0.5).forecast(window(storm()))
    torch.testing.assert_close(ahead, torch.full_like(ahead, 65 / 2))


def test_each_height_moves_with_its_own_motion_and_other_variables_move_nothing() -> None:
    low, high = storm(velocity=(3, 1)), storm(velocity=(-2, 2))
    batch = window(low, high)
    with_zdr = replace(batch, radar=torch.cat([torch.rand_like(batch.radar), batch.radar], 2), variables=("zdr", "zh"))
    both = saying(made(("zdr", "zh"), heights=2), 20, 0).forecast(with_zdr)
    for height, zh in enumerate((low, high)):
        torch.testing.assert_close(both[..., height, :, :], saying(made(), 20, 0).forecast(window(zh))[..., 0, :, :])


@pytest.mark.parametrize("scaling", ["range", "standard"])
def test_what_is_carried_along_goes_in_as_frames_do(scaling: str) -> None:
    """A storm that stands still is, carried along, the last frame again; so it must be to the encoders."""
    still = window(storm(change=0.0, velocity=(0, 0)))
    noise = torch.rand_like(still.radar)
    batch = replace(still, radar=torch.cat([noise, still.radar], 2), variables=("zdr", "zh"))
    model = made(("zdr", "zh"), scaling=scaling)
    model.fit([batch])
    got: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, fields: got.extend(fields))
    model.forecast(batch)
    seen, ahead = got
    torch.testing.assert_close(ahead, seen[:, -1:, 1].expand_as(ahead), atol=1e-2, rtol=0)


@pytest.mark.parametrize("scaling", ["range", "standard"])
def test_what_other_variables_tell_of_a_storm_is_carried_along_with_it(scaling: str) -> None:
    """Each of its own height, by the motion of that height's zh: here zdr is told by zh, so that both move alike."""
    low, high = storm(velocity=(3, 1)), storm(velocity=(-2, 2))
    zh = window(low, high)
    batch = replace(zh, radar=torch.cat([6 / 65 * zh.radar - 1, zh.radar], 2), variables=("zdr", "zh"))
    model = made(("zdr", "zh"), heights=2, scaling=scaling, carry="all")
    model.fit([batch])
    got: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, fields: got.extend(fields))
    model.forecast(batch)
    of_zh, of_zdr = got[1].chunk(2, 2)
    frames = model._scaled_zh(batch)
    within = model._carried([frames, torch.ones_like(frames)])[1][0] > 0.9999
    assert 0.5 < within.float().mean() < 1
    torch.testing.assert_close(of_zdr[within], of_zh[within], atol=2e-3, rtol=0)


def test_from_zh_alone_it_is_one_net_whatever_else_would_be_carried_along() -> None:
    batch = window(storm())
    torch.testing.assert_close(made(carry="all").forecast(batch), made(carry="zh").forecast(batch), rtol=0, atol=0)


@pytest.mark.parametrize("carry", ["zh", "all"])
def test_an_older_frame_is_carried_to_the_same_times(carry: str) -> None:
    """Of a storm that only moves, it shows what the newest shows; of one that has grown by a fifth, a fifth less."""
    zh = storm(change=0.0, velocity=(2, -1))
    for growth in (0.0, 0.2):
        grown = zh * np.linspace(1 - growth, 1, SEEN)[:, None, None]
        newest, older = _shown_of(grown, carry)
        strong = newest > 0.3
        assert float(older[strong].mean() / newest[strong].mean()) == pytest.approx(1 - growth, abs=0.05)


def _shown_of(zh: Any, carry: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the last encoder is shown of the newest zh, and of that three frames before."""
    only_zh = window(zh)
    batch = replace(only_zh, radar=only_zh.radar.repeat(1, 1, 2, 1, 1, 1), variables=("zh", "kdp"))
    model = made(("zh", "kdp"), carry=carry, carry_back=[0, 3])
    got: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, fields: got.extend(fields))
    model.forecast(batch)
    assert got[1].shape[2] == (4 if carry == "all" else 2)
    return got[1][:, :, 0], got[1][:, :, 1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"carry": "zdr"}, "there are: zh, all"), ({"carry_back": [3]}, "begin with 0"),
     ({"carry_back": [0, -1]}, "go back from it"), ({"carry_back": []}, "begin with 0"),
     ({"carry_back": [0, SEEN]}, f"use at most {SEEN - 1}")],
)  # fmt: skip
def test_what_can_not_be_carried_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        made(**wrong)


def test_without_zh_there_is_nothing_to_carry_along() -> None:
    with pytest.raises(BadInput, match="what is carried along is zh"):
        made(("zdr", "kdp"))
