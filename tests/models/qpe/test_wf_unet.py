from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.common.matching import match_widths
from polarcast.models.forecaster import InputSpec, parameter_count
from polarcast.models.qpe.wf_unet import WFUNet, WFUNetConfig

HEIGHTS = (1.0, 3.0, 7.0)


def make_batch(
    b: int = 2, t: int = 1, size: tuple[int, int] = (16, 16), variables: Sequence[str] = ("zh", "zdr")
) -> Batch:
    generator = torch.Generator().manual_seed(0)
    radar = 30 * torch.rand(b, t, len(variables), 3, *size, generator=generator)
    rain = 40 * torch.rand(b, t, *size, generator=generator) ** 3
    return Batch(radar, rain, torch.arange(b), torch.zeros(b, dtype=torch.long), tuple(variables), HEIGHTS)


def make_net(variables: Sequence[str] = ("zh", "zdr"), widths: Sequence[int] = (4, 6, 8), frames: int = 1) -> WFUNet:
    torch.manual_seed(0)
    net = WFUNet(WFUNetConfig(widths=list(widths)), InputSpec(tuple(variables), HEIGHTS, frames))
    torch.nn.init.constant_(net.net.head.bias, 2.0)  # forecast some rain before training
    return net


def count(streams: int, widths: Sequence[int]) -> int:
    """Closed-form parameter count, for a search with hundreds of evaluations."""

    def block(channels: int, width: int) -> int:
        shortcut = (channels + 1) * width if channels != width else 0
        return (9 * channels + 1) * width + (9 * width + 1) * width + shortcut

    stem = (9 * len(HEIGHTS) + 1) * widths[0]
    encoder = stem + sum(block(a, b) for a, b in pairwise([widths[0], *widths]))
    decoder = sum(block(low + streams * skip, skip) for skip, low in pairwise(widths))
    return streams * encoder + block(streams * widths[-1], widths[-1]) + decoder + widths[0] + 1


@pytest.mark.parametrize("variables", [("zh",), ("zh", "zdr"), ("zh", "zdr", "kdp")])
def test_any_number_of_variables_gives_a_rain_field(variables: tuple[str, ...]) -> None:
    net, batch = make_net(variables), make_batch(size=(16, 24), variables=variables)
    assert len(net.net.streams) == len(variables)
    assert net.forecast(batch).shape == (2, 1, 1, 16, 24)
    assert (net.forecast(batch) >= 0).all()


def test_indivisible_grid_raises() -> None:
    with pytest.raises(BadInput, match="divisible by 4"):
        make_net().forecast(make_batch(size=(18, 16)))


@pytest.mark.parametrize("variable", [0, 1])
@pytest.mark.parametrize("height", [0, 1, 2])
def test_forecast_depends_on_every_variable_and_height(variable: int, height: int) -> None:
    net, batch = make_net(), make_batch()
    radar = batch.radar.clone()
    radar[:, :, variable, height] = 0
    assert not torch.allclose(net.forecast(batch), net.forecast(replace(batch, radar=radar)))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_both_streams_reach_the_decoder_at_every_level(level: int) -> None:
    net, batch = make_net(), make_batch()
    before = net.forecast(batch)
    for stream in net.net.streams:
        hook = stream.encoders[level].register_forward_hook(lambda module, x, y: torch.zeros_like(y))
        assert not torch.allclose(before, net.forecast(batch))
        hook.remove()


def test_streams_are_independent_before_the_decoder() -> None:
    net, batch = make_net(), make_batch()
    maps: list[torch.Tensor] = []
    net.net.streams[0].register_forward_hook(lambda module, x, y: maps.extend(y))
    net.forecast(batch)
    radar = batch.radar.clone()
    radar[:, :, 1] += 1
    net.forecast(replace(batch, radar=radar))
    assert all(torch.equal(a, b) for a, b in zip(maps[:3], maps[3:], strict=True))


@pytest.mark.parametrize("widths", [[8, 12, 20], [16, 32, 64], [64, 128, 256, 384]])
def test_radar_arm_matches_the_parameters_of_dual_pol_within_one_percent(widths: list[int]) -> None:
    target = parameter_count(make_net(widths=widths))
    assert target == count(2, widths)
    assert parameter_count(make_net(["zh"], widths)) < 0.9 * target
    matched = match_widths(lambda w: count(1, w), widths, target)
    assert parameter_count(make_net(["zh"], matched)) == pytest.approx(target, rel=0.01)


def test_training_reduces_the_loss() -> None:
    net, batch = make_net(), make_batch(size=(8, 8))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    before = float(net.loss(batch).detach())
    for _ in range(40):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    assert float(net.loss(batch).detach()) < 0.5 * before
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_forecast_uses_earlier_frames_and_loss_only_the_last() -> None:
    net, batch = make_net(frames=3), make_batch(t=3)
    before = net.forecast(batch)
    assert before.shape == (2, 1, 1, 16, 16)
    radar = batch.radar.clone()
    radar[:, 0] = 0
    assert not torch.allclose(before, net.forecast(replace(batch, radar=radar)))
    early = torch.cat([7 + batch.rain_rate[:, :-1], batch.rain_rate[:, -1:]], 1)
    assert torch.equal(net.loss(batch), net.loss(replace(batch, rain=early)))
    assert not torch.equal(net.loss(batch), net.loss(replace(batch, rain=7 + batch.rain_rate)))
