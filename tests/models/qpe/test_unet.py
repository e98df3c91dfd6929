from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.runs.build import build_model
from polarcast.models.common.matching import match_widths
from polarcast.models.forecaster import InputSpec, parameter_count
from polarcast.models.qpe.unet import UNet, UNetConfig

INPUTS = InputSpec(("zh", "zdr"), (1.0, 3.0, 7.0))


def make_batch(b: int = 2, size: tuple[int, int] = (16, 16), seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    radar = 30 * torch.rand(b, 1, 2, 3, *size, generator=generator)
    rain = 40 * torch.rand(b, 1, *size, generator=generator) ** 3
    return Batch(radar, rain, torch.arange(b), torch.zeros(b, dtype=torch.long), ("zh", "zdr"), (1.0, 3.0, 7.0))


def with_fields(batch: Batch, radar: torch.Tensor, rain_rate: torch.Tensor) -> Batch:
    b = len(radar)
    return Batch(radar, rain_rate, batch.event[:b], batch.frame[:b], batch.variables, batch.heights_km)


def make_unet(widths: tuple[int, ...] = (4, 6, 8)) -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig(widths=list(widths)), INPUTS)


def make_rainy_unet(frames: int = 1) -> UNet:
    """Return a U-Net that forecasts rain before training: comparisons of dry fields would be trivial."""
    torch.manual_seed(0)
    net = UNet(UNetConfig(widths=[4, 6, 8]), replace(INPUTS, frames=frames))
    torch.nn.init.constant_(net.net.head.bias, 2.0)
    return net


@pytest.mark.parametrize("size", [(4, 4), (16, 24), (64, 64)])
def test_divisible_grids_give_a_rain_field(size: tuple[int, int]) -> None:
    forecast = make_rainy_unet().forecast(make_batch(size=size))
    assert forecast.shape == (2, 1, 1, *size)
    assert (forecast >= 0).all()
    assert forecast.any()


def test_indivisible_grid_raises() -> None:
    with pytest.raises(BadInput, match="divisible by 4"):
        make_unet().forecast(make_batch(size=(16, 18)))


def test_forecast_does_not_depend_on_the_target() -> None:
    net, batch = make_rainy_unet(), make_batch()
    other = with_fields(batch, batch.radar, 7 + batch.rain_rate)
    torch.testing.assert_close(net.forecast(batch), net.forecast(other), rtol=0, atol=0)


def test_micro_batch_losses_average_to_the_batch_loss() -> None:
    net, batch = make_unet(), make_batch(4)
    parts = [net.loss(with_fields(batch, batch.radar[i : i + 2], batch.rain_rate[i : i + 2])) for i in (0, 2)]
    torch.testing.assert_close(net.loss(batch), (parts[0] + parts[1]) / 2)


def test_rain_of_a_storm_does_not_depend_on_the_frame_size() -> None:
    net, storm = make_rainy_unet(), make_batch(1, (32, 32))
    no_echo = torch.zeros_like(storm.radar)
    wide = with_fields(storm, torch.cat([storm.radar, no_echo], -1), torch.zeros(1, 1, 32, 64))
    # Compare away from the seam, where the neighborhoods differ.
    torch.testing.assert_close(net.forecast(storm)[..., :8], net.forecast(wide)[..., :8])


def test_training_reduces_the_loss() -> None:
    net, batch = make_unet(), make_batch(4)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    before = float(net.loss(batch).detach())
    for _ in range(60):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    assert float(net.loss(batch).detach()) < 0.5 * before


@pytest.mark.parametrize("widths", ["[16,32,64]", "[64,128,256,384]", "[8,12,20]"])
def test_both_arms_have_the_same_number_of_parameters_within_one_percent(widths: str) -> None:
    radar, dualpol = (load_config("demo", [f"model.widths={widths}", f"arm={a}"]) for a in ("radar", "dualpol"))
    counts = [parameter_count(build_model(resolve(c))) for c in (radar, dualpol)]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    unmatched = load_config("demo", [f"model.widths={widths}", "arm=radar", "match_params=false"])
    assert parameter_count(build_model(resolve(unmatched))) < counts[1]


def count(widths: Sequence[int]) -> int:
    return sum(9 * a * b for a, b in pairwise([6, *widths])) + 9 * widths[-1] ** 2


# Below 16 channels, two levels are too coarse to match within one percent, and `match_widths` raises.
@given(st.lists(st.integers(16, 64), min_size=2, max_size=4).map(sorted), st.floats(0.9, 1.3))
@example([16, 25], 0.9064)
def test_matched_widths_reach_the_target(widths: list[int], factor: float) -> None:
    target = round(factor * count(widths))
    assert abs(count(match_widths(count, widths, target)) - target) <= 0.01 * target


def test_unreachable_target_raises() -> None:
    with pytest.raises(ValueError, match="nearest"):
        match_widths(lambda w: 1000 * sum(w), [1, 1], 2500)


def test_weights_and_loss_of_a_seed_are_unchanged() -> None:
    net = make_unet()
    assert sum(float(p.detach().double().abs().sum()) for p in net.parameters()) == pytest.approx(
        270.812119831, rel=1e-9
    )
    assert float(net.loss(make_batch()).detach()) == pytest.approx(6.9198027, rel=1e-6)


def test_forecast_uses_earlier_frames_and_loss_only_the_last() -> None:
    net = make_rainy_unet(frames=3)
    frames = [make_batch(seed=seed) for seed in range(3)]
    radar, rain = torch.cat([f.radar for f in frames], 1), torch.cat([f.rain_rate for f in frames], 1)
    batch = with_fields(frames[0], radar, rain)
    forecast = net.forecast(batch)
    assert forecast.shape == (2, 1, 1, 16, 16)
    without_first = with_fields(batch, torch.cat([0 * radar[:, :1], radar[:, 1:]], 1), rain)
    assert not torch.allclose(forecast, net.forecast(without_first))
    early, late = (
        with_fields(batch, radar, rain + 7 * torch.tensor(at)[:, None, None]) for at in ([1, 1, 0], [0, 0, 1])
    )
    assert torch.equal(net.loss(batch), net.loss(early))
    assert not torch.equal(net.loss(batch), net.loss(late))


def test_seed_determines_the_weights() -> None:
    one, same = (build_model(resolve(load_config("demo", ["seed=3"]))).state_dict() for _ in range(2))
    other = build_model(resolve(load_config("demo", ["seed=4"]))).state_dict()
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
