"""Synthetic storms that a small network can overfit, and a training loop."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.models.forecaster import Forecaster, InputSpec

Train = Callable[[Forecaster, Batch, int], tuple[float, float]]


def make_storms(b: int = 4, size: int = 16) -> Batch:
    """Return smooth reflectivity, rain that is a function of it, and noise as ZDR."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(b, 3, size // 4, size // 4, generator=generator)
    zh = 55 * F.interpolate(coarse, scale_factor=4.0, mode="bilinear")
    zdr = 2 * torch.rand(b, 3, size, size, generator=generator)
    rain = (0.036 * 10 ** (zh[:, :1] / 16) - 0.5).clamp(min=0)
    window = torch.arange(b)
    return Batch(torch.stack([zh, zdr], 1)[:, None], rain, window, window + 3, ("zh", "zdr"), (1.0, 3.0, 7.0))


def overfit(model: Forecaster, batch: Batch, steps: int) -> tuple[float, float]:
    """Train on one batch and return the mean loss of the first and the last ten steps."""
    model.fit([batch])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(steps):
        model.zero_grad()
        loss = model.loss(replace(batch, sample_index=torch.arange(len(batch)) + step * len(batch)))
        loss.backward()
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, 2 * (1 - step / steps))
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[:10]) / 10, sum(losses[-10:]) / 10


@pytest.fixture(scope="session")
def inputs() -> InputSpec:
    return InputSpec(("zh", "zdr"), (1.0, 3.0, 7.0))


@pytest.fixture(scope="session")
def storms() -> Batch:
    return make_storms()


@pytest.fixture(scope="session")
def train() -> Train:
    return overfit
