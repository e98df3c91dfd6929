"""Merges of several trained models: mean, linear combination, U-Net."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, nnls

from polarcast.data.batch import Batch
from polarcast.models.diffusion.conditional import Diffusion, DiffusionConfig
from polarcast.models.diffusion.merge import (
    Merge,
    MergeConfig,
    ModelMean,
    ModelMeanConfig,
    Stacked,
    StackedConfig,
    nonnegative_solution,
)
from polarcast.models.diffusion.post_process import MemberMean, MemberMeanConfig
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.qpe.unet import UNet, UNetConfig

INPUTS = InputSpec(("zh", "zdr"), (1.0, 3.0))


class Scaled(Forecaster):
    """Estimate a multiple of the true rain, plus noise of its own."""

    def __init__(self, factor: float, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.factor, self.noise, self.seed = factor, noise, seed
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> torch.Tensor:
        rain = batch.rain_rate[:, -1:]
        generator = torch.Generator().manual_seed(self.seed + int(batch.event.sum()))
        noisy = self.factor * rain + self.noise * torch.randn(rain.shape, generator=generator)
        return noisy.clamp(min=0)[:, None]


def make_batch(b: int = 2, event: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(event)
    radar = torch.rand(b, 1, 2, 2, 16, 16, generator=generator) * torch.tensor([45.0, 2.0])[:, None, None, None]
    rain = 20 * torch.rand(b, 1, 16, 16, generator=generator) ** 3
    window = event + torch.arange(b)
    return Batch(radar, rain, window, window, INPUTS.variables, INPUTS.heights_km, sample_index=window)


def unet(seed: int) -> UNet:
    torch.manual_seed(seed)
    net = UNet(UNetConfig(widths=[4, 8]), INPUTS)
    torch.nn.init.constant_(net.net.head.bias, 1.0 + seed)
    return net


def diffusion() -> Diffusion:
    torch.manual_seed(3)
    model = Diffusion(DiffusionConfig(widths=[8, 8], steps=2), INPUTS)
    torch.nn.init.normal_(model.denoising.net.head.weight, std=0.1)
    return model


def test_mean_is_the_mean_of_the_bases_and_trains_nothing() -> None:
    batch, bases = make_batch(), (unet(0), unet(1))
    expected = torch.stack([base.forecast(batch) for base in bases]).mean(0)
    model = ModelMean(ModelMeanConfig(), INPUTS, bases)
    torch.testing.assert_close(model.forecast(batch, members=3, seed=1), expected)
    assert parameter_count(model) == 0
    assert model.evaluations is None


def test_merge_starts_as_the_mean_and_corrects_it() -> None:
    batch, bases = make_batch(4), (Scaled(0.5), Scaled(0.7))
    torch.manual_seed(0)
    model = Merge(MergeConfig(widths=[8, 12]), INPUTS, bases)
    torch.testing.assert_close(model.forecast(batch), 0.6 * batch.rain_rate[:, None], rtol=1e-4, atol=1e-4)
    first = float(model.loss(batch).detach())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    assert float(model.loss(batch).detach()) < 0.3 * first
    assert {name for name, _ in model.named_parameters()} == {f"net.{name}" for name, _ in model.net.named_parameters()}


def test_weights_of_the_linear_merge_equal_those_of_scipy_on_all_pixels() -> None:
    bases = (Scaled(0.5, 1.0, 10), Scaled(1.2, 2.0, 20), Scaled(-1.0), Scaled(0.9, 0.5, 30))
    batches = [make_batch(2, event) for event in (0, 7, 11)]
    model = Stacked(StackedConfig(), INPUTS, bases)
    torch.testing.assert_close(
        model.forecast(batches[0]), ModelMean(ModelMeanConfig(), INPUTS, bases).forecast(batches[0])
    )
    model.fit(batches)
    columns = [np.concatenate([base.forecast(batch).double().flatten().numpy() for batch in batches]) for base in bases]
    matrix, target = np.stack(columns, 1), np.concatenate([b.rain_rate.double().flatten().numpy() for b in batches])
    np.testing.assert_allclose(model.weights.numpy(), nnls(matrix, target)[0], atol=1e-4)
    np.testing.assert_allclose(model.weights.numpy(), lsq_linear(matrix, target, (0, np.inf), tol=1e-12).x, atol=1e-3)
    expected = sum(w * base.forecast(batches[0]) for w, base in zip(model.weights, bases, strict=True))
    torch.testing.assert_close(model.forecast(batches[0]), expected)
    errors = [float((m.forecast(b)[:, 0] - b.rain_rate).square().mean()) for m in (model, bases[3]) for b in batches]
    assert sum(errors[:3]) < sum(errors[3:])


def test_equal_bases_and_a_dry_archive_are_no_problem() -> None:
    bases = (Scaled(0.5), Scaled(0.5))
    model = Stacked(StackedConfig(), INPUTS, bases)
    dry = make_batch()
    model.fit([replace(dry, rain=torch.zeros_like(dry.rain_rate))])
    assert model.weights.tolist() == [0.5, 0.5]
    model.fit([dry])
    assert float(model.weights.sum()) == pytest.approx(2, rel=1e-4)
    assert (model.weights >= 0).all()


def test_normal_equations_give_the_solution_of_the_full_problem() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        matrix, target = rng.normal(size=(40, 4)), rng.normal(size=40)
        found = nonnegative_solution(matrix.T @ matrix, matrix.T @ target)
        np.testing.assert_allclose(found, nnls(matrix, target)[0], atol=1e-10)


def test_samples_of_a_generative_base_follow_the_rules_of_the_mean_of_members() -> None:
    batch, base, net = make_batch(), diffusion(), unet(0)
    model = ModelMean(ModelMeanConfig(samples=2), INPUTS, (base, net))
    mean = MemberMean(MemberMeanConfig(samples=2), INPUTS, diffusion())
    found = model.forecast(batch, members=3, seed=5)
    torch.testing.assert_close(found, (mean.forecast(batch, members=3, seed=5) + net.forecast(batch)) / 2)
    assert found.shape == (2, 3, 1, 16, 16)
    assert model.evaluations == mean.evaluations
    alone = replace(
        batch, radar=batch.radar[1:], rain=batch.rain_rate[1:], event=batch.event[1:], frame=batch.frame[1:]
    )
    torch.testing.assert_close(model.forecast(replace(alone, sample_index=None), 3, 5), found[1:])


def test_random_bases_draw_different_noise() -> None:
    batch = make_batch()
    model = ModelMean(ModelMeanConfig(), INPUTS, (diffusion(), diffusion()))
    first, second = model.estimates(batch, 1, 0).unbind(2)
    assert not torch.allclose(first, second)


def test_merge_of_a_generative_base_draws_anew_at_each_step_by_the_position_alone() -> None:
    batch = make_batch(4)
    torch.manual_seed(0)
    model = Merge(MergeConfig(widths=[4, 8], features=["edges"]), INPUTS, (diffusion(), diffusion(), unet(0)))
    later = replace(batch, sample_index=100 + torch.arange(4))
    first, again, other = (float(model.loss(one).detach()) for one in (batch, batch, later))
    assert first == again != other
    parts = [
        replace(
            batch, radar=batch.radar[half], rain=batch.rain_rate[half], event=batch.event[half],
            frame=batch.frame[half], sample_index=torch.arange(4)[half],
        )
        for half in (slice(0, 2), slice(2, 4))
    ]  # fmt: skip
    torch.testing.assert_close(sum(model.loss(part) for part in parts) / 2, model.loss(batch))
    assert model.loss_numbers(batch) is None
    assert Merge(MergeConfig(widths=[4, 8]), INPUTS, (unet(0), unet(1))).loss_numbers(batch) == ()
    forecast = model.forecast(batch, members=2, seed=0)
    assert forecast.shape == (4, 2, 1, 16, 16)
    assert not torch.allclose(forecast[:, 0], forecast[:, 1])
