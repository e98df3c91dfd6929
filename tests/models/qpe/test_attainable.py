import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.synth.attainable import RainPrior, draw_particles, posterior_mean
from polarcast.models.forecaster import InputSpec
from polarcast.models.qpe.attainable import Attainable, AttainableConfig

NOISE = [0.8, 0.2, 0.2]


@pytest.fixture(scope="module")
def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Rain rates drawn from the prior, (n,), and their noisy zh, zdr and kdp, (n, 3)."""
    rng = np.random.default_rng(0)
    cloud = draw_particles(RainPrior(), 200_000, rng)
    drawn = rng.choice(len(cloud.rain), 36_864, p=np.exp(cloud.log_weight) / np.exp(cloud.log_weight).sum())
    return cloud.rain[drawn], cloud.observables[drawn] + rng.normal(size=(len(drawn), 3)) * NOISE


def make_batch(rain: np.ndarray, observables: np.ndarray, variables: tuple[str, ...]) -> Batch:
    fields = torch.from_numpy(observables[:, : len(variables)].T.reshape(1, 1, len(variables), 1, 64, -1)).float()
    target = torch.from_numpy(rain.reshape(1, 1, 64, -1)).float()
    return Batch(fields, target, torch.zeros(1), torch.zeros(1), variables, (1.0,))


def fitted(batch: Batch) -> Attainable:
    model = Attainable(AttainableConfig(noise=NOISE, particles=20_000), InputSpec(batch.variables, batch.heights_km))
    model.fit([batch])
    return model


def rmse(model: Attainable, batch: Batch) -> float:
    return float((model.forecast(batch)[:, 0] - batch.rain_rate).square().mean().sqrt())


def test_forecast_is_the_posterior_mean_under_the_archive_prior(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    rain, observables = pixels
    batch = make_batch(rain, observables, ("zh", "zdr"))
    cloud = draw_particles(RainPrior(), 50_000, np.random.default_rng(1))
    subset = slice(0, 2000)
    exact = posterior_mean(cloud, observables[subset], NOISE, ("zh", "zdr"))
    estimate = fitted(batch).forecast(batch).flatten()[subset].numpy()
    assert np.sqrt(np.mean((estimate - rain[subset]) ** 2)) == pytest.approx(
        np.sqrt(np.mean((exact - rain[subset]) ** 2)), rel=0.05
    )
    assert np.corrcoef(estimate, exact)[0, 1] > 0.995


def test_estimate_is_unbiased_and_zdr_lowers_its_error(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    batches = [make_batch(*pixels, variables) for variables in (("zh",), ("zh", "zdr"))]
    models = [fitted(b) for b in batches]
    errors = [rmse(m, b) for m, b in zip(models, batches, strict=True)]
    assert errors[1] < 0.75 * errors[0]
    for model, batch in zip(models, batches, strict=True):
        assert float(model.forecast(batch).mean()) == pytest.approx(float(batch.rain_rate.mean()), rel=0.05)


def test_no_echo_gives_no_rain(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    rain, observables = pixels
    model = fitted(make_batch(rain, observables, ("zh",)))
    nothing = make_batch(rain, np.zeros_like(observables), ("zh",))
    assert model.forecast(nothing).abs().max() == 0
