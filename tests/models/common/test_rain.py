import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.batch import Batch
from polarcast.data.scaling import scale_rain
from polarcast.models.common.rain import RainConfig, as_forecast, heavy_rain_weight, last_rain, rain_loss

configs = st.builds(
    RainConfig,
    rain_transform=st.sampled_from(["log1p", "sqrt", "identity"]),
    rate_weight=st.sampled_from([0.0, 0.5, 2.0]),
    heavy_power=st.sampled_from([0.0, 0.5, 1.0]),
)
seeds = st.integers(0, 1000)


def draw_rain(seed: int, b: int = 4) -> torch.Tensor:
    return 150 * torch.rand(b, 1, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 4


def best_constant_forecast(rain_rate: torch.Tensor, config: RainConfig) -> float:
    """Return the constant forecast in mm/h that minimizes the loss over all rain rates."""
    grid = torch.linspace(1.0, 8.0, 2001, dtype=rain_rate.dtype)
    scaled = scale_rain(grid, config.rain_transform)
    losses = torch.stack([rain_loss(s.expand_as(rain_rate), rain_rate, config) for s in scaled])
    return float(grid[losses.argmin()])


@given(configs, seeds)
def test_loss_is_zero_only_for_a_perfect_forecast(config: RainConfig, seed: int) -> None:
    rain_rate = draw_rain(seed)
    perfect = scale_rain(rain_rate, config.rain_transform)
    assert float(rain_loss(perfect, rain_rate, config)) == pytest.approx(0, abs=1e-12)
    assert float(rain_loss(perfect + 0.1, rain_rate, config)) > 1e-3


@given(configs, seeds)
def test_micro_batch_losses_average_to_the_batch_loss(config: RainConfig, seed: int) -> None:
    rain_rate, scaled = draw_rain(seed), draw_rain(seed + 1)
    parts = [rain_loss(scaled[i : i + 2], rain_rate[i : i + 2], config) for i in (0, 2)]
    torch.testing.assert_close(rain_loss(scaled, rain_rate, config), (parts[0] + parts[1]) / 2)


@given(configs, st.lists(st.floats(0, 300), min_size=2, max_size=20).map(sorted))
def test_weights_increase_with_rain_from_one_up_to_the_cap(config: RainConfig, rates: list[float]) -> None:
    weights = heavy_rain_weight(torch.tensor(rates, dtype=torch.float64), config)
    assert (weights >= 1).all()
    assert (weights.diff() >= 0).all()
    assert float(weights.max()) <= (1 + config.heavy_cap) ** config.heavy_power


def test_loss_of_an_outlier_is_limited() -> None:
    stray = torch.full((1, 1, 2, 2), 40.0, requires_grad=True)
    loss = rain_loss(stray, torch.ones(1, 1, 2, 2), RainConfig())
    assert loss < 0.5 * 30.0**2 + 40.0**2
    loss.backward()
    assert stray.grad is not None
    assert (stray.grad > 0).all()  # the error in the transformed space still has a gradient


def test_weights_are_off_by_default() -> None:
    assert (heavy_rain_weight(draw_rain(0), RainConfig()) == 1).all()
    scaled, rain_rate = draw_rain(1).log1p(), draw_rain(0)
    by_hand = (scaled - rain_rate.log1p()).square().mean() + 0.5 * ((scaled.expm1() - rain_rate) / 10).square().mean()
    torch.testing.assert_close(rain_loss(scaled, rain_rate, RainConfig()), by_hand)


# ln(1 + R) ~ N(1, 0.6): the median is e − 1, the mean e^1.18 − 1.
@pytest.mark.parametrize(("power", "log_of_best"), [(0.0, 1.0), (0.5, 1.18), (1.0, 1.36)])
def test_power_of_one_half_makes_the_conditional_mean_optimal(power: float, log_of_best: float) -> None:
    quantiles = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    rain_rate = (1 + 0.6 * torch.special.ndtri(quantiles)).exp() - 1
    rain_rate = rain_rate.clamp(min=0)
    best = best_constant_forecast(rain_rate, RainConfig(rate_weight=0, heavy_power=power))
    assert best == pytest.approx(math.exp(log_of_best) - 1, rel=0.03)


def test_only_the_last_frame_is_estimated() -> None:
    rain = draw_rain(0, 6).view(2, 3, 6, 5)
    radar, zero = torch.zeros(2, 3, 1, 1, 6, 5), torch.zeros(2, dtype=torch.long)
    batch = Batch(radar, rain, zero, zero, ("zh",), (1.0,))
    assert torch.equal(last_rain(batch), rain[:, 2:])


@pytest.mark.parametrize("transform", ["log1p", "sqrt", "identity"])
def test_a_forecast_is_in_mm_per_hour_and_never_negative(transform: str) -> None:
    rain_rate, config = draw_rain(0), RainConfig(rain_transform=transform)
    forecast = as_forecast(scale_rain(rain_rate, transform), config)
    assert forecast.shape == (4, 1, 1, 6, 5)
    torch.testing.assert_close(forecast[:, 0], rain_rate)
    assert float(as_forecast(-1 - rain_rate, config).max()) == 0
