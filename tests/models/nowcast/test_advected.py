"""FURENet with advected echo: limits of full and no persistence, scaling and advection of its inputs."""

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


def make_model(
    variables: tuple[str, ...] = ("zh",), heights: int = 1, lead: int = LEAD, scaling: str = "range", **carry: Any
) -> Advected:
    torch.manual_seed(0)
    config = AdvectedConfig(widths=[8, 16], squeeze=4, scaling=scaling, **carry)
    return Advected(config, InputSpec(variables, tuple(range(1, 1 + heights)), SEEN, lead)).eval()


def with_output(model: Advected, kept: float, change: float) -> Advected:
    """Make the model output constants: the fraction of echo kept (as a logit) and the added change."""
    last = model.net.decoders[-1]
    for layer in (last.resize, last.second):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        last.second.bias += torch.tensor([kept, change]).repeat_interleave(len(last.second.bias) // 2)
    return model


def test_keeping_all_echo_gives_the_extrapolation() -> None:
    zh = storm(SEEN + 6, velocity=(3, -2))
    ahead = with_output(make_model(lead=6), 20, 0).forecast(window(zh[:SEEN]))[0, 0, :, 0].detach().numpy()
    assert csi(ahead[-1], zh[-1]) > 0.75 > 2 * csi(zh[SEEN - 1], zh[-1])


def test_keeping_no_echo_gives_the_predicted_change() -> None:
    ahead = with_output(make_model(), -20, 0.5).forecast(window(storm()))
    torch.testing.assert_close(ahead, torch.full_like(ahead, 65 / 2))


def test_motion_is_that_of_zh_at_each_height() -> None:
    low, high = storm(velocity=(3, 1)), storm(velocity=(-2, 2))
    batch = window(low, high)
    with_zdr = replace(batch, radar=torch.cat([torch.rand_like(batch.radar), batch.radar], 2), variables=("zdr", "zh"))
    both = with_output(make_model(("zdr", "zh"), heights=2), 20, 0).forecast(with_zdr)
    for height, zh in enumerate((low, high)):
        torch.testing.assert_close(
            both[..., height, :, :], with_output(make_model(), 20, 0).forecast(window(zh))[..., 0, :, :]
        )


@pytest.mark.parametrize("scaling", ["range", "standard"])
def test_advected_frames_are_scaled_like_input_frames(scaling: str) -> None:
    """The advected frames of a stationary storm equal the last frame, and so must their scaled values."""
    still = window(storm(change=0.0, velocity=(0, 0)))
    noise = torch.rand_like(still.radar)
    batch = replace(still, radar=torch.cat([noise, still.radar], 2), variables=("zdr", "zh"))
    model = make_model(("zdr", "zh"), scaling=scaling)
    model.fit([batch])
    net_inputs: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, fields: net_inputs.extend(fields))
    model.forecast(batch)
    observed, ahead = net_inputs
    torch.testing.assert_close(ahead, observed[:, -1:, 1].expand_as(ahead), atol=1e-2, rtol=0)


@pytest.mark.parametrize("scaling", ["range", "standard"])
def test_other_variables_are_advected_with_the_zh_of_their_height(scaling: str) -> None:
    """Here zdr is a linear function of zh at each height, so both must move together."""
    low, high = storm(velocity=(3, 1)), storm(velocity=(-2, 2))
    zh = window(low, high)
    batch = replace(zh, radar=torch.cat([6 / 65 * zh.radar - 1, zh.radar], 2), variables=("zdr", "zh"))
    model = make_model(("zdr", "zh"), heights=2, scaling=scaling, carry="all")
    model.fit([batch])
    net_inputs: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, fields: net_inputs.extend(fields))
    model.forecast(batch)
    zh_ahead, zdr_ahead = net_inputs[1].chunk(2, 2)
    frames = model._scaled_zh(batch)
    within = model._advected([frames, torch.ones_like(frames)])[1][0] > 0.9999
    assert 0.5 < within.float().mean() < 1
    torch.testing.assert_close(zdr_ahead[within], zh_ahead[within], atol=2e-3, rtol=0)


def test_carry_has_no_effect_with_zh_alone() -> None:
    batch = window(storm())
    torch.testing.assert_close(
        make_model(carry="all").forecast(batch), make_model(carry="zh").forecast(batch), rtol=0, atol=0
    )


@pytest.mark.parametrize("carry", ["zh", "all"])
def test_older_frames_are_advected_to_the_same_lead_times(carry: str) -> None:
    """For a storm that only moves, both ages agree; after growth by a fifth, the older is a fifth weaker."""
    zh = storm(change=0.0, velocity=(2, -1))
    for growth in (0.0, 0.2):
        grown = zh * np.linspace(1 - growth, 1, SEEN)[:, None, None]
        newest, older = _advected_zh(grown, carry)
        strong = newest > 0.3
        assert float(older[strong].mean() / newest[strong].mean()) == pytest.approx(1 - growth, abs=0.05)


def _advected_zh(zh: Any, carry: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the input of the last encoder for the newest zh and for that three frames earlier."""
    only_zh = window(zh)
    batch = replace(only_zh, radar=only_zh.radar.repeat(1, 1, 2, 1, 1, 1), variables=("zh", "kdp"))
    model = make_model(("zh", "kdp"), carry=carry, carry_back=[0, 3])
    net_inputs: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, fields: net_inputs.extend(fields))
    model.forecast(batch)
    assert net_inputs[1].shape[2] == (4 if carry == "all" else 2)
    return net_inputs[1][:, :, 0], net_inputs[1][:, :, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"carry_back": [3]}, "start with 0"), ({"carry_back": [0, SEEN]}, f"use at most {SEEN - 1}")],
)
def test_invalid_carry_settings_raise(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_model(**settings)


def test_inputs_without_zh_raise() -> None:
    with pytest.raises(BadInput, match="advection needs zh"):
        make_model(("zdr", "kdp"))
