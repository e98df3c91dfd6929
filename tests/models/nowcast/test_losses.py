"""Losses of nowcasting networks: formulas and intended effects."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polarcast.models.nowcast.losses import LOSSES, balanced, mse, sharp


def fields(side: int = 16, columns: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 1, side, columns, generator=drawn), torch.rand(2, 3, 1, side, columns, generator=drawn)


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_forecast_has_zero_loss_and_micro_batches_average_to_the_batch_loss(name: str) -> None:
    forecast, observed = fields()
    loss = LOSSES[name]
    assert loss(observed, observed) == 0
    parts = [loss(f, o) for f, o in zip(forecast.split(1), observed.split(1), strict=True)]
    assert torch.stack(parts).mean() == pytest.approx(float(loss(forecast, observed)), rel=1e-6)


def test_balanced_weights_by_the_observed_class() -> None:
    dbz = torch.tensor([10.0, 20.0, 31.0, 36.0, 50.0])
    observed, error = dbz / 65, 0.1
    by_hand = np.mean(np.array([1, 2, 5, 10, 30]) * (error**2 + error)) / 30
    assert balanced(observed + error, observed) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("columns", [15, 16])
def test_sharp_averages_squared_errors_of_field_and_amplitudes(columns: int) -> None:
    forecast, observed = fields(columns=columns)
    a, b = (np.abs(np.fft.fft2(x.double().numpy(), norm="ortho")) for x in (forecast, observed))
    by_hand = 0.5 * np.mean((forecast - observed).double().numpy() ** 2) + 0.5 * np.mean((a - b) ** 2)
    assert sharp(forecast, observed) == pytest.approx(by_hand, rel=1e-5)


def test_sharp_penalizes_blur_more_than_mse_does() -> None:
    observed = torch.zeros(1, 1, 1, 64, 64)
    observed[..., 30:34, 30:34] = 1.0
    shifted = observed.roll(6, -1)
    blurred = F.avg_pool2d(observed[0], 15, 1, 7)[None]
    assert mse(blurred, observed) < mse(shifted, observed)
    assert sharp(blurred, observed) / sharp(shifted, observed) > mse(blurred, observed) / mse(shifted, observed)
    # A shift does not change amplitudes, so only the squared error contributes.
    assert sharp(shifted, observed) == pytest.approx(0.5 * float(mse(shifted, observed)), rel=1e-4)
