"""FURENet: shapes, parameter counts, invalid grids and training."""

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import InputSpec, parameter_count
from polarcast.models.nowcast.furenet import FURENet, FURENetConfig

VARIABLES = ("zh", "zdr", "kdp")
PAPER = InputSpec(VARIABLES, (3.0,), frames=10, lead_frames=10)


def make_batch(variables: tuple[str, ...] = VARIABLES, heights: int = 1, side: int = 32, b: int = 2) -> Batch:
    drawn = torch.Generator().manual_seed(0)
    radar = 40 * torch.rand(b, 4, len(variables), heights, side, side, generator=drawn)
    future = 40 * torch.rand(b, 3, heights, side, side, generator=drawn)
    number = torch.arange(b)
    return Batch(radar, None, number, number, variables, tuple(range(1, 1 + heights)), target_zh=future)


def conv(a: int, b: int, side: int = 3) -> int:
    return a * b * side * side + b


def block(a: int, b: int) -> int:
    """Return the parameters of a block: three convolutions, and scale and shift of each channel."""
    return conv(a, b) + 2 * conv(b, b) + 2 * b


def test_parameter_count_of_the_paper_configuration() -> None:
    widths = [64, 128, 192, 256, 384, 512]
    encoder = sum(block(a, b) for a, b in zip([10, *widths], widths, strict=False))
    into = [3 * 512, 384 + 3 * 384, 256 + 3 * 256, 192 + 3 * 192, 128 + 3 * 128, 64 + 3 * 64]
    decoder = sum(block(a, b) for a, b in zip(into, [384, 256, 192, 128, 64, 10], strict=True))
    squeeze = (1536 * 96 + 96) + (96 * 1536 + 1536)
    plain, rich = (FURENet(FURENetConfig(attention=a), PAPER) for a in (False, True))
    assert parameter_count(plain) == 3 * encoder + decoder + squeeze
    attention = 3 * conv(1536, 512, 1) + conv(512, 1536, 1)
    assert parameter_count(rich) == parameter_count(plain) + attention + 4 * block(10, 10)


def test_encoder_maps_have_the_shapes_of_the_paper() -> None:
    with torch.device("meta"):
        net = FURENet(FURENetConfig(), PAPER).net
        maps = net.encoders[0](torch.zeros(1, 10, 1, 256, 256))
        out = net(torch.zeros(1, 10, 3, 1, 256, 256))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 128, 128), (128, 64, 64), (192, 32, 32), (256, 16, 16), (384, 8, 8), (512, 4, 4),
    ]  # fmt: skip
    assert out.shape == (1, 10, 1, 256, 256)


@pytest.mark.parametrize("variables", [("zh",), ("zdr", "kdp"), VARIABLES])
@pytest.mark.parametrize("attention", [False, True])
def test_any_variables_and_heights_give_zh_at_every_height(variables: tuple[str, ...], attention: bool) -> None:
    batch = make_batch(variables, heights=2)
    inputs = InputSpec(variables, batch.heights_km, frames=4, lead_frames=3)
    model = FURENet(FURENetConfig(widths=[4, 6, 8], attention=attention), inputs)
    assert model.forecast(batch).shape == (2, 1, 3, 2, 32, 32)
    assert model.loss(batch).isfinite()


def test_indivisible_grid_raises() -> None:
    model = FURENet(FURENetConfig(widths=[4, 6, 8]), InputSpec(VARIABLES, (1,), frames=4, lead_frames=3))
    with pytest.raises(BadInput, match="can't be halved 3 times"):
        model.loss(make_batch(side=36))


def test_forecast_depends_on_every_variable() -> None:
    model = FURENet(FURENetConfig(widths=[4, 6, 8]), InputSpec(VARIABLES, (1,), frames=4, lead_frames=3)).eval()
    batch = make_batch()
    batch.radar.requires_grad_()
    model.scaled_forecast(batch).sum().backward()
    assert (batch.radar.grad.abs().amax((0, 3, 4, 5)) > 0).all()


@pytest.mark.parametrize("attention", [False, True])
def test_model_overfits_one_batch(attention: bool) -> None:
    torch.manual_seed(0)
    batch = make_batch(side=16)
    smooth = torch.nn.functional.avg_pool2d(batch.target_zh.flatten(0, 2), 5, 1, 2).view_as(batch.target_zh)
    batch = Batch(batch.radar, None, batch.event, batch.frame, VARIABLES, batch.heights_km, target_zh=smooth)
    inputs = InputSpec(VARIABLES, batch.heights_km, frames=4, lead_frames=3)
    model = FURENet(FURENetConfig(widths=[24, 48], attention=attention), inputs)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = [float(model.loss(batch).detach())]
    while losses[-1] >= 0.02 * losses[0] and len(losses) <= 10:
        for _ in range(15):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        losses.append(float(model.loss(batch).detach()))
    assert losses[-1] < 0.02 * losses[0]
