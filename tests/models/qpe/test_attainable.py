"""Attainable estimates: posterior means under the archive's own prior and noise, never beaten by boosting by pixel."""

from functools import cache
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.synth.attainable import PixelErrors, RainPrior, draw_particles, posterior_mean, world_of
from polarcast.data.synth.generate import PRESETS, generate_event
from polarcast.models.forecaster import InputSpec
from polarcast.models.qpe.attainable import Attainable, AttainableConfig

NOISE = [0.8, 0.2, 0.2]
MADE_BY = {"generator": "polarcast synthetic storms", "generator_version": "2", "rain": "true_R", "preset": "meiyu"}
TRAIN_EVENTS, TEST_EVENTS = 36, 24
KNOWN = [name for name, world in PRESETS.items() if not world.varies_radar]
"""Presets of one drop climate and one radar."""


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
    model.describe_data(MADE_BY)
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


@cache
def storms(preset: str) -> Batch:
    """One frame of each event of a small archive, at 1 km."""
    if preset == "tiny":  # the same storms
        return storms("meiyu")
    events = [generate_event(PRESETS[preset], 11, e, 64, 1) for e in range(TRAIN_EVENTS + TEST_EVENTS)]
    radar = torch.from_numpy(np.stack([e.radar[:, :2, :1] for e in events])).half().float()
    number = torch.arange(len(events))
    rain = torch.from_numpy(np.stack([e.rain for e in events])).half().float()
    return Batch(radar, rain, number, torch.zeros_like(number), ("zh", "zdr"), (1.0,))


def chosen(batch: Batch, variables: tuple[str, ...], events: slice) -> Batch:
    radar = batch.radar[events][:, :, : len(variables)]
    return Batch(radar, batch.rain_rate[events], batch.event[events], batch.frame[events], variables, (1.0,))


def archive_of(preset: str, **settings: Any) -> dict[str, Any]:
    return {**MADE_BY, "preset": preset, **settings}


def boosted(train: Batch, test: Batch) -> np.ndarray:
    """Rain of the test batch by LightGBM, trained on the same pixels, stopped early on every fourth event."""
    echo = (train.variable("zh") != 0).flatten().numpy()
    pixels = train.radar.movedim(2, -1).flatten(0, -2).numpy()[echo]
    rain = train.rain_rate.flatten().numpy()[echo]
    held_out = np.repeat(train.event.numpy() % 4 == 0, train.radar[0, 0, 0].numel())[echo]
    fitting = lightgbm.Dataset(pixels[~held_out], rain[~held_out])
    model = lightgbm.train(
        {"objective": "regression", "learning_rate": 0.08, "min_data_in_leaf": 50, "num_threads": 1, "verbose": -1,
         "deterministic": True}, fitting, 400,
        [lightgbm.Dataset(pixels[held_out], rain[held_out], reference=fitting)],
        callbacks=[lightgbm.early_stopping(30, verbose=False)],
    )  # fmt: skip
    found = model.predict(test.radar.movedim(2, -1).flatten(0, -2).numpy()).reshape(test.rain_rate.shape)
    return np.where(test.variable("zh")[:, :, 0].numpy() == 0, 0, found)


def interval_of_log_ratio(errors: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """95% interval of ln(RMSE / RMSE of the others), by a bootstrap over events; squared errors by event, (n,)."""
    drawn = np.random.default_rng(0).integers(0, len(errors), (2000, len(errors)))
    low, high = np.quantile(np.log(errors[drawn].sum(1) / others[drawn].sum(1)) / 2, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("variables", [("zh",), ("zh", "zdr")])
@pytest.mark.parametrize("preset", KNOWN)
def test_boosting_by_pixel_does_not_beat_it_on_any_preset(preset: str, variables: tuple[str, ...]) -> None:
    train, test = (
        chosen(storms(preset), variables, part) for part in (slice(0, TRAIN_EVENTS), slice(TRAIN_EVENTS, None))
    )
    model = Attainable(AttainableConfig(particles=20_000), InputSpec(variables, (1.0,)))
    model.describe_data(archive_of(preset))
    model.fit([train])
    estimate, truth = model.forecast(test)[:, 0].numpy(), test.rain_rate.numpy()
    by_event = [((found - truth) ** 2).sum((1, 2, 3)) for found in (estimate, boosted(train, test))]
    assert interval_of_log_ratio(*by_event)[0] < 0
    assert abs(estimate.sum() / truth.sum() - 1) < 0.15


@pytest.mark.parametrize("preset", KNOWN)
def test_errors_of_a_pixel_are_those_of_the_preset(preset: str) -> None:
    world = world_of(archive_of(preset))
    errors = PixelErrors.of(world)
    observed = errors.archived(np.array([[30.0, 1.0, 2.0]]))[0]
    assert observed == pytest.approx([30, 1 + world.zdr_bias_db, 2 * world.kdp_scale])
    expected = [sd * growth**0.8 for sd, growth in zip(world.noise, world.noise_growth, strict=True)]
    assert errors.noise_at(np.array([30.0, 38.0, 60.0])) == pytest.approx(
        np.array([expected, world.noise, world.noise])
    )


def test_storms_of_many_radars_are_refused() -> None:
    with pytest.raises(BadInput, match="those of any-radar differ between events"):
        world_of(archive_of("any-radar"))


def test_noise_of_the_user_replaces_that_of_the_preset() -> None:
    batch = chosen(storms("meiyu"), ("zh", "zdr"), slice(0, TRAIN_EVENTS))
    tables = []
    for noise in (None, NOISE, [2.0, 1.0, 0.2]):
        model = Attainable(AttainableConfig(noise=noise, particles=2000), InputSpec(("zh", "zdr"), (1.0,)))
        model.describe_data(MADE_BY)
        model.fit([batch])
        tables.append(model.table)
    assert torch.equal(tables[0], tables[1])
    assert not torch.allclose(tables[0], tables[2])


def test_placebo_ignores_zdr_of_other_events() -> None:
    batch = chosen(storms("meiyu"), ("zh", "zdr"), slice(0, TRAIN_EVENTS))
    estimates = []
    for variables, is_placebo in ((("zh", "zdr"), True), (("zh",), False)):
        model = Attainable(AttainableConfig(particles=2000), InputSpec(variables, (1.0,)))
        model.describe_data(MADE_BY, is_placebo)
        model.fit([batch])
        estimates.append(model.forecast(batch))
    torch.testing.assert_close(*estimates)


@pytest.mark.parametrize(
    "provenance",
    [{}, {"generator": "not recorded", "root": "/data/NJU-CPOL"}, archive_of("meiyu", rain="kdp_rain"),
     archive_of("unknown"), archive_of("meiyu", generator_version="1"), {**MADE_BY, "preset": ["meiyu"]}],
)  # fmt: skip
def test_other_archives_are_refused(provenance: dict[str, Any]) -> None:
    batch = chosen(storms("meiyu"), ("zh",), slice(0, 2))
    model = Attainable(AttainableConfig(noise=NOISE), InputSpec(("zh",), (1.0,)))
    model.describe_data(provenance)
    with pytest.raises(BadInput, match="needs a synthetic archive with the true rain"):
        model.fit([batch])
