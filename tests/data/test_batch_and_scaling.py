import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.batch import Batch
from polarcast.data.scaling import FrameScaling, RangeScaling, make_scaling, scale_rain, unscale_rain

seeds = st.integers(0, 2**31)


def _radar(seed: int, frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 40 * torch.randn(2, frames, 3, 2, 5, 4, generator=generator)


@given(seeds)
def test_range_scaling_inverts_exactly(seed: int) -> None:
    radar, scaling = _radar(seed), RangeScaling(("zh", "zdr", "kdp"))
    torch.testing.assert_close(scaling.invert(scaling.apply(radar)), radar, rtol=1e-5, atol=1e-5)


def test_range_scaling_maps_the_contest_limits_to_zero_and_one() -> None:
    low = torch.tensor([0.0, -1, -1]).reshape(1, 1, 3, 1, 1, 1)
    high = torch.tensor([65.0, 5, 6]).reshape(1, 1, 3, 1, 1, 1)
    scaling = RangeScaling(("zh", "zdr", "kdp"))
    assert scaling.apply(low).abs().max() == 0
    assert (scaling.apply(high) - 1).abs().max() == 0


@given(seeds)
def test_frame_scaling_inverts_exactly_and_fills_zero_to_one(seed: int) -> None:
    radar = _radar(seed)
    scaling = FrameScaling.of(radar)
    scaled = scaling.apply(radar)
    assert scaled.amin() == 0
    assert scaled.amax() == 1
    torch.testing.assert_close(scaling.invert(scaled), radar, rtol=1e-5, atol=1e-4)


def test_frame_scaling_of_a_constant_frame_stays_finite() -> None:
    scaling = FrameScaling.of(torch.zeros(1, 1, 1, 1, 4, 4))
    assert torch.isfinite(scaling.apply(torch.ones(1, 1, 1, 1, 4, 4))).all()


@given(seeds)
def test_a_forecast_is_inverted_with_the_limits_of_the_last_input_frame(seed: int) -> None:
    radar = _radar(seed, frames=3)
    forecast = FrameScaling.of(radar).invert(torch.ones(2, 5, 3, 2, 5, 4))
    expected = radar[:, -1:].amax((-2, -1), keepdim=True).expand_as(forecast)
    torch.testing.assert_close(forecast, expected)


@given(seeds, st.sampled_from(["log1p", "sqrt", "identity"]))
def test_rain_transforms_invert_exactly(seed: int, transform: str) -> None:
    rain = 200 * torch.rand(100, generator=torch.Generator().manual_seed(seed)) ** 4
    torch.testing.assert_close(unscale_rain(scale_rain(rain, transform), transform), rain, rtol=2e-5, atol=1e-5)


def test_negative_output_is_clamped_to_no_rain() -> None:
    for transform in ("log1p", "sqrt", "identity"):
        assert unscale_rain(torch.tensor([-3.0]), transform).item() == 0


def test_an_unknown_scaling_is_rejected() -> None:
    with pytest.raises(ValueError, match="unknown scaling"):
        make_scaling("percentile", ("zh",), _radar(0))


@pytest.mark.parametrize(
    ("radar", "rain", "event", "message"),
    [
        ((2, 1, 1, 1, 4), (2, 1, 4, 4), (2,), r"\(b, t, v, z, y, x\)"),
        ((2, 1, 2, 1, 4, 4), (2, 1, 4, 4), (2,), "2 variables"),
        ((2, 1, 1, 1, 4, 4), (2, 1, 4, 5), (2,), "rain"),
        ((2, 1, 1, 1, 4, 4), (2, 1, 4, 4), (3,), "event"),
    ],
)
def test_wrong_shapes_of_a_batch_are_rejected(
    radar: tuple[int, ...], rain: tuple[int, ...], event: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Batch(torch.zeros(radar), torch.zeros(rain), torch.zeros(event), torch.zeros(2), ("zh",), (1.0,))
