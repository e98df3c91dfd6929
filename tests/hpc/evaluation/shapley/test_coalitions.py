"""Attributions of forecasts: hand-computed values, all models beside a plain loop, efficiency, and the same noise."""

import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.hpc.evaluation.shapley import coalitions
from polarcast.hpc.evaluation.shapley.coalitions import CoalitionForecasts, Explained
from polarcast.hpc.evaluation.shapley.players import players_of
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.registry import get_model
from tests.support.shapley_games import (
    HEIGHTS,
    Linear,
    Noise,
    Product,
    by_orders,
    explained,
    others,
    random_model,
    randomized,
    windows,
)

QPE = InputSpec(("zh", "zdr"), HEIGHTS)
NOWCAST = InputSpec(("zh", "zdr", "kdp"), HEIGHTS, 2, 2)
FRAMES = ("task=nowcast", "data.seen_frames=2", "data.lead_frames=2")


DIFFUSION = ("model.name=diffusion", "model.widths=[2,4]", "model.steps=2")


def on_base(name: str) -> Forecaster:
    """Return a model with random weights around a base with random weights."""
    entry = get_model(name)
    base = random_model(*(DIFFUSION if name == "post_process" else ["model.widths=[2,4]"]))
    return randomized(entry.build(entry.config(widths=[2, 4]), QPE, base))


MODELS = {
    "U-Net": (lambda: random_model("model.widths=[4,8]"), QPE, "channels", 1),
    "diffusion": (lambda: random_model(*DIFFUSION), QPE, "heights", 2),
    "FURENet": (lambda: random_model(*FRAMES, "model.name=furenet", "model.widths=[4,8]"), NOWCAST, "variables", 1),
    "persistence": (lambda: random_model(*FRAMES, "model.name=persistence"), NOWCAST, "variables*times", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_attributions_are_those_of_a_loop_over_orders_and_add_up(name: str) -> None:
    make, inputs, text, members = MODELS[name]
    batch = windows(3, len(inputs.variables), inputs.frames)
    game = CoalitionForecasts(make(), players_of(text, inputs), members, seed=4)
    given = explained(batch, is_mutual=not game.uses_noise(batch))
    found = game.attributions(given)
    whole, nobody = game.forecast(batch).double().mean(1), game.pair(given, 0)[0].mean(1)
    reach = (whole - nobody).abs().max()
    assert reach > 0
    assert (found.sum(1) - (whole - nobody)).abs().max() <= 1e-5 * reach
    assert (found - by_orders(game, given)).abs().max() <= 1e-5 * reach


def test_only_generative_models_use_noise() -> None:
    used = {}
    for name, (make, inputs, text, members) in MODELS.items():
        game = CoalitionForecasts(make(), players_of(text, inputs), members)
        used[name] = game.uses_noise(windows(2, len(inputs.variables), inputs.frames))
    assert used == {"U-Net": False, "diffusion": True, "FURENet": False, "persistence": False}


def test_a_window_without_echo_does_not_hide_noise() -> None:
    class NoiseInEcho(Noise):
        def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> torch.Tensor:
            has_echo = (batch.radar != 0).flatten(1, 3).any(1)[:, None, None]
            return super().forecast(batch, members, seed) * has_echo

    batch = windows(3)
    batch.radar[0] = 0
    assert CoalitionForecasts(NoiseInEcho(), players_of("channels", QPE)).uses_noise(batch)


@pytest.mark.parametrize("name", ["residual_diffusion", "post_process"])
def test_a_base_sees_the_same_changed_input_and_noise(name: str) -> None:
    assert get_model(name).needs_base
    game = CoalitionForecasts(on_base(name), players_of("variables", QPE), 2)
    given = explained(windows(2), is_mutual=False)
    found, plain = game.attributions(given), by_orders(game, given)
    assert (found - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_noise_has_no_value_for_any_player() -> None:
    """All coalitions of a window see the noise of that window."""
    game, batch = CoalitionForecasts(Noise(), players_of("channels", QPE), members=3), windows(4)
    assert game.uses_noise(batch)
    assert game.attributions(explained(batch, is_mutual=False)).abs().max() <= 1e-12


def test_the_values_of_a_linear_model_are_weighted_differences_from_the_donors() -> None:
    weights = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(2))
    game, batch = CoalitionForecasts(Linear(weights), players_of("channels", QPE)), windows(5)
    radar = batch.radar.double()
    mean = torch.stack([radar[others(5)[x]].mean(0) for x in range(5)])
    expected = (weights.double()[..., None, None] * (radar - mean)).flatten(1, 3)
    for is_mutual in (True, False):
        found = game.attributions(explained(batch, is_mutual))[:, :, 0]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_the_values_of_a_product_share_the_interaction() -> None:
    """φ₁ = (x₁ − b₁)(x₂ + b₂) / 2 and φ₂ = (x₂ − b₂)(x₁ + b₁) / 2 for f = x₁ · x₂ and one donor."""
    batch = windows(2)
    found = CoalitionForecasts(Product(), players_of("variables", QPE)).attributions(explained(batch, is_mutual=True))
    x = batch.radar[:, 0, :, 0].double()
    torch.testing.assert_close(found[0, 0, 0], ((x[0, 0] - x[1, 0]) * (x[0, 1] + x[1, 1]) / 2), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found[0, 1, 0], ((x[0, 1] - x[1, 1]) * (x[0, 0] + x[1, 0]) / 2), atol=1e-4, rtol=1e-5)


def test_swapped_players_swap_their_values() -> None:
    """A model that treats two variables alike gives each the value of the other when their fields are exchanged."""
    weights = torch.ones(1, 2, 3)
    batch = windows(4)
    game = CoalitionForecasts(Linear(weights), players_of("variables", QPE))
    one = game.attributions(explained(batch, is_mutual=True))
    two = game.attributions(explained(batch.map(lambda field: field.flip(2) if field.ndim == 6 else field), True))
    torch.testing.assert_close(one, two.flip(1), atol=1e-4, rtol=1e-5)


def test_a_variable_that_the_model_does_not_read_has_no_value() -> None:
    weights = torch.ones(1, 2, 3)
    weights[:, 1] = 0
    found = CoalitionForecasts(Linear(weights), players_of("variables", QPE)).attributions(explained(windows(3), True))
    assert found[:, 0].abs().min() > 0
    assert found[:, 1].abs().max() <= 1e-6


def test_each_others_donors_halve_the_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """With k players and w windows of w − 1 donors: w + w (w − 1) (2^(k − 1) − 1), not w + w (w − 1) (2^k − 1)."""
    seen: list[int] = []
    model = Linear(torch.ones(1, 2, 3))
    forecast = model.forecast

    def counted(batch, *rest):  # type: ignore[no-untyped-def]
        seen.append(len(batch))
        return forecast(batch, *rest)

    monkeypatch.setattr(model, "forecast", counted)
    game = CoalitionForecasts(model, players_of("heights", QPE))
    game.attributions(explained(windows(4), is_mutual=True))
    assert sum(seen) == 4 + 4 * 3 * (2**2 - 1)
    seen.clear()
    game.attributions(explained(windows(4), is_mutual=False))
    assert sum(seen) == 4 + 4 * 3 * (2**3 - 1)


def test_small_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    game, given = (
        CoalitionForecasts(random_model("model.widths=[4,8]"), players_of("heights", QPE)),
        explained(windows(3), True),
    )
    whole = game.attributions(given)
    monkeypatch.setattr(coalitions, "_PIXELS_AT_ONCE", 64)
    torch.testing.assert_close(game.attributions(given), whole, atol=1e-5, rtol=1e-4)


def test_donors_may_depend_on_the_coalition() -> None:
    """Present heights {1, 2} take donor 1, the rest donor 2."""
    weights, batch = torch.ones(1, 2, 3), windows(3)
    game = CoalitionForecasts(Linear(weights), players_of("heights", QPE))
    given = Explained(batch, batch.radar, np.array([[1]] * 3), np.array([[2]] * 3))
    of, rest = game.pair(given, 0b011)
    by_height = batch.radar.double().sum((1, 2))
    torch.testing.assert_close(of[0, 0, 0], by_height[0, :2].sum(0) + by_height[1, 2], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(rest[0, 0, 0], by_height[0, 2] + by_height[2, :2].sum(0), atol=1e-4, rtol=1e-5)
