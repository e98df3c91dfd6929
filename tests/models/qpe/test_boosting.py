from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.boosting import Boosting, BoostingConfig, Reservoir
from polarcast.models.qpe.power_law import PowerLaw, PowerLawConfig

INPUTS = InputSpec(("zh", "zdr"), (1.0, 3.0))
SMALL = {"trees": 60, "pixels": 4000}


def make_batch(b: int = 8, seed: int = 0, t: int = 1, noise: float = 0.1) -> Batch:
    """Return noisy rain, a power law below 40 dBZ and less steep above, with echo in half of the pixels."""
    draw = np.random.default_rng(seed)
    zh = draw.uniform(10, 52, (b, t, 1, 24, 24)) + draw.normal(0, 1, (b, t, 2, 24, 24))
    zdr = draw.uniform(0, 2.5, (b, t, 1, 24, 24)) + draw.normal(0, 0.1, (b, t, 2, 24, 24))
    effective_zh = np.minimum(zh[:, :, 0], 40) + 0.2 * np.maximum(zh[:, :, 0] - 40, 0)
    rain = 0.02 * 10 ** (0.07 * effective_zh - 0.2 * zdr[:, :, 0]) * draw.lognormal(0, noise, (b, t, 24, 24))
    dry = draw.random((b, t, 24, 24)) < 0.5
    radar = torch.from_numpy(np.stack([zh, zdr], 2)).float().masked_fill(torch.from_numpy(dry)[:, :, None, None], 0)
    observed = torch.from_numpy(rain).float().masked_fill(torch.from_numpy(dry), 0)
    return Batch(
        radar, observed, torch.arange(b) + 100 * seed, torch.full((b,), 5), INPUTS.variables, INPUTS.heights_km
    )


def part(batch: Batch, rows: Sequence[int]) -> Batch:
    at = torch.tensor(rows)
    fields = {name: getattr(batch, name)[at] for name in ("radar", "rain", "event", "frame")}
    return replace(batch, **fields)


def make_boosting(seed: int = 0, **settings: object) -> Boosting:
    torch.manual_seed(seed)
    return Boosting(BoostingConfig(**{**SMALL, **settings}), INPUTS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted() -> Boosting:
    model = make_boosting()
    model.fit([make_batch()])
    return model


def rmse(model: Forecaster, batch: Batch) -> float:
    return float((model.forecast(batch)[:, 0] - batch.rain_rate[:, -1:]).square().mean().sqrt())


def bias(model: Forecaster, batch: Batch) -> float:
    return float(model.forecast(batch).sum() / batch.rain_rate[:, -1:].sum()) - 1


def test_boosting_beats_the_fitted_power_law_on_other_relations(fitted: Boosting) -> None:
    law = PowerLaw(PowerLawConfig(coefficients="fitted"), INPUTS)
    law.fit([make_batch()] * 8)
    test = make_batch(seed=1)
    assert rmse(fitted, test) < 0.9 * rmse(law, test)


def test_forecast_is_wet_exactly_where_there_is_echo(fitted: Boosting) -> None:
    batch = make_batch(seed=2)
    forecast = fitted.forecast(batch)
    assert forecast.shape == (8, 1, 1, 24, 24)
    assert (forecast >= 0).all()
    assert torch.equal(forecast[:, 0] == 0, batch.radar[:, :, 0, 0] == 0)
    no_echo = replace(batch, radar=torch.zeros_like(batch.radar))
    assert not fitted.forecast(no_echo).any()


def test_tweedie_is_unbiased_and_log_regression_is_biased() -> None:
    noisy, test = make_batch(noise=0.8), make_batch(seed=1, noise=0.8)
    straight, logarithmic = make_boosting(), make_boosting(objective="regression", rain_transform="log1p")
    for model in (straight, logarithmic):
        model.fit([noisy])
    assert abs(bias(straight, test)) < 0.05
    assert bias(logarithmic, test) < -0.1


def test_trees_do_not_depend_on_batch_size_and_order(fitted: Boosting) -> None:
    whole, again = make_batch(), make_boosting()
    again.fit([part(whole, rows) for rows in ([7, 2], [0], [1, 3, 4], [6, 5])])
    assert torch.equal(fitted.trees, again.trees)


def test_trees_do_not_depend_on_the_number_of_threads() -> None:
    # Small trees: synchronizing threads is slow on busy cores.
    one, two = (make_boosting(trees=2, leaves=4) for _ in range(2))
    one.fit([make_batch()])
    torch.set_num_threads(2)
    try:
        two.fit([make_batch()])
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one.trees, two.trees)


def test_seed_determines_the_sampled_pixels(fitted: Boosting) -> None:
    other = make_boosting(seed=1, pixels=500)
    same = make_boosting(seed=0, pixels=500)
    for model in (other, same):
        model.fit([make_batch()])
    assert not torch.equal(other.trees, same.trees)


def test_trees_load_from_a_weights_file(fitted: Boosting) -> None:
    weights = load(save(fitted.state_dict()))
    for model in (make_boosting(), refitted()):
        model.load_state_dict(weights)
        batch = make_batch(seed=3)
        assert torch.equal(model.forecast(batch), fitted.forecast(batch))


def refitted() -> Boosting:
    """Return a model with fewer trees that has already made a forecast."""
    model = make_boosting(trees=5)
    model.fit([make_batch()])
    model.forecast(make_batch())
    return model


def test_weights_without_trees_raise() -> None:
    with pytest.raises(RuntimeError, match="trees"):
        make_boosting().load_state_dict({})


def test_forecast_before_fit_raises() -> None:
    with pytest.raises(BadInput, match="there are no trees"):
        make_boosting().forecast(make_batch())


def test_fit_without_echo_or_rain_raises() -> None:
    batch = make_batch()
    with pytest.raises(BadInput, match="no training window has an echo"):
        make_boosting().fit([replace(batch, radar=torch.zeros_like(batch.radar))])
    with pytest.raises(BadInput, match="no training window has rain"):
        make_boosting().fit([replace(batch, rain=torch.zeros_like(batch.rain_rate))])


def test_only_the_last_frame_of_a_window_is_used() -> None:
    batch, model, same = make_batch(t=3), make_boosting(), make_boosting()
    model.fit([batch])
    same.fit([replace(batch, radar=torch.cat([0 * batch.radar[:, :-1], batch.radar[:, -1:]], 1))])
    assert torch.equal(model.trees, same.trees)
    assert model.forecast(batch).shape == (8, 1, 1, 24, 24)


def test_neighbourhood_means_are_features() -> None:
    model = make_boosting(neighbourhood=[3, 5], trees=5)
    model.fit([make_batch()])
    text = model.trees.numpy().tobytes().decode()
    assert f"max_feature_idx={3 * 4 - 1}" in text
    assert model.forecast(make_batch()).shape == (8, 1, 1, 24, 24)


def test_even_side_raises() -> None:
    with pytest.raises(BadInput, match=r"model\.neighbourhood"):
        make_boosting(neighbourhood=[4])


@given(st.integers(0, 1000), st.permutations(range(60)))
def test_reservoir_does_not_depend_on_the_order(seed: int, order: list[int]) -> None:
    kept, other = (fill(Reservoir(20), seed, items) for items in (range(60), order))
    assert all(np.array_equal(a, b) for a, b in zip(kept, other, strict=True))
    assert len(kept[1]) == 20


def fill(reservoir: Reservoir, seed: int, order: Sequence[int]) -> tuple[np.ndarray, ...]:
    for item in order:
        value = np.array([float(item)])
        reservoir.offer(value[:, None], value, 1 + value, np.random.default_rng([seed, item]))
    return reservoir.drawn()


def test_reservoir_weights_give_unbiased_sums() -> None:
    values = np.arange(200.0)
    sums = []
    for seed in range(400):
        reservoir = Reservoir(30)
        reservoir.offer(values[:, None], values, 1 + values**2, np.random.default_rng(seed))
        _, rain, weights = reservoir.drawn()
        sums.append(float(rain @ weights))
    assert np.mean(sums) == pytest.approx(values.sum(), rel=0.02)


def test_short_stream_is_kept_whole_with_unit_weights() -> None:
    values = np.arange(10.0)
    reservoir = Reservoir(30)
    reservoir.offer(values[:, None], values, 1 + values, np.random.default_rng(0))
    _, rain, weights = reservoir.drawn()
    assert sorted(rain) == values.tolist()
    assert (weights == 1).all()
