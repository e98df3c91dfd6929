"""Residual diffusion of nowcasts: standardization, members and frozen base."""

from dataclasses import replace

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.furenet import FURENet, FURENetConfig
from polarcast.models.nowcast.persistence import Persistence, PersistenceConfig
from polarcast.models.nowcast.residual import ResidualNowcast, ResidualNowcastConfig

INPUTS = InputSpec(("zh", "zdr"), (1.0, 3.0), frames=3, lead_frames=4)


def make_batch(b: int = 3, side: int = 16) -> Batch:
    """Return zh whose change from the last input frame has a standard deviation of 2, 4, 6, 8 dB by lead time."""
    drawn = torch.Generator().manual_seed(0)
    radar = 20 + 5 * torch.randn(b, 3, 2, 2, side, side, generator=drawn)
    grows = 2.0 * torch.arange(1, 5)[:, None, None, None]
    future = radar[:, -1:, 0] + grows * torch.randn(b, 4, 2, side, side, generator=drawn)
    number = torch.arange(b)
    return Batch(radar, None, number, number + 7, INPUTS.variables, INPUTS.heights_km, number, target_zh=future)


@pytest.fixture(scope="module")
def model() -> ResidualNowcast:
    torch.manual_seed(0)
    base = Persistence(PersistenceConfig(), INPUTS)
    model = ResidualNowcast(ResidualNowcastConfig(widths=[8, 12], steps=3), INPUTS, base)
    model.fit([make_batch(16)])
    return model.eval()


def test_residuals_are_standardized_for_each_lead_time_and_height(model: ResidualNowcast) -> None:
    spread = 65 * model.standard.std.flatten()
    assert spread.view(4, 2) == pytest.approx(torch.tensor([[2.0, 2], [4, 4], [6, 6], [8, 8]]), rel=0.05)


def test_members_have_the_shape_and_range_of_reflectivity(model: ResidualNowcast) -> None:
    members = model.forecast(make_batch(), members=2)
    assert members.shape == (3, 2, 4, 2, 16, 16)
    assert members.isfinite().all()
    assert members.min() >= 0
    assert members.max() <= 1.2 * 65
    assert not members[:, 0].equal(members[:, 1])


def test_forecast_does_not_depend_on_the_batch(model: ResidualNowcast) -> None:
    batch = make_batch()
    one = slice(1, 2)
    alone = replace(batch, radar=batch.radar[one], target_zh=batch.required_target_zh[one], event=batch.event[one],
                    frame=batch.frame[one])  # fmt: skip
    assert model.forecast(alone, 2, seed=3)[0] == pytest.approx(model.forecast(batch, 2, seed=3)[1], abs=1e-3)


def test_members_do_not_depend_on_the_number_per_pass(model: ResidualNowcast, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = model.forecast(make_batch(), members=3)
    monkeypatch.setattr("polarcast.models.nowcast.residual._members_per_pass", lambda _: 2)
    assert model.forecast(make_batch(), members=3) == pytest.approx(one_by_one, abs=1e-3)


def test_loss_trains_the_denoiser_and_not_the_base(model: ResidualNowcast) -> None:
    model.zero_grad()
    model.loss(make_batch()).backward()
    assert any(p.grad is not None and p.grad.any() for p in model.denoising.parameters())
    assert model.validation_loss(make_batch()).isfinite()
    assert not any(p.requires_grad for p in model.base.parameters())


def test_training_does_not_update_batch_norm_of_the_base() -> None:
    base = FURENet(FURENetConfig(widths=[4, 6], squeeze=2), INPUTS)
    model = ResidualNowcast(ResidualNowcastConfig(widths=[8, 12]), INPUTS, base).train()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model.loss(make_batch())
    assert all(value.equal(before[name]) for name, value in base.state_dict().items())
