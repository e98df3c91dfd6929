"""Models whose Shapley values are known, windows of random fields, and a plain way to compute all coalitions."""

from dataclasses import replace
from itertools import permutations
from math import factorial

import numpy as np
import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.evaluation.shapley.coalitions import CoalitionForecasts, Explained
from polarcast.hpc.runs.build import build_model
from polarcast.models.diffusion.random_numbers import FORECASTS, forecast_keys, normal
from polarcast.models.forecaster import Forecaster

HEIGHTS = (1.0, 3.0, 7.0)


class Linear(Forecaster):
    """Σ w · field: the value of a player is w · (field − mean of the donors')."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        return torch.einsum("tvz,btvzyx->byx", self.weights, batch.radar)[:, None, None]


class Product(Forecaster):
    """The first times the second variable."""

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        return (batch.radar[:, -1, 0, 0] * batch.radar[:, -1, 1, 0])[:, None, None]


class Noise(Forecaster):
    """Noise keyed by event and frame, which no player changes."""

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        shape = (1, *batch.radar.shape[-2:])
        fields = [normal(forecast_keys(batch, seed, m), FORECASTS, shape, batch.radar.device) for m in range(members)]
        return torch.stack(fields, 1)


def windows(number: int, variables: int = 2, frames: int = 1, size: int = 8, seed: int = 0) -> Batch:
    """Return windows of random fields of different events."""
    generator = torch.Generator().manual_seed(seed)
    radar = 20 * torch.rand(number, frames, variables, len(HEIGHTS), size, size, generator=generator)
    numbers = torch.arange(number)
    return Batch(radar, None, numbers + 5, 3 * numbers, ("zh", "zdr", "kdp")[:variables], HEIGHTS)


def others(number: int) -> np.ndarray:
    """Return all other windows as the donors of each one, (w, w − 1)."""
    return np.array([[b for b in range(number) if b != x] for x in range(number)])


def explained(batch: Batch, is_mutual: bool) -> Explained:
    """Return windows that are each other's donors."""
    return Explained(batch, batch.radar, others(len(batch)), is_mutual=is_mutual)


def by_orders(game: CoalitionForecasts, given: Explained) -> Tensor:
    """Return the attributions, (w, n, t, …), by a loop over all orders, windows and donors."""
    n, batch = len(game.players), given.batch
    values: dict[tuple[int, int], Tensor] = {}

    def value(window: int, coalition: int) -> Tensor:
        if (window, coalition) not in values:
            present = torch.from_numpy(game.players.fields_of(coalition))[..., None, None]
            found = []
            for donor in given.donors[window]:
                mixed = torch.where(present, batch.radar[window], given.pool[donor])[None]
                at = slice(window, window + 1)
                one = replace(batch, radar=mixed, event=batch.event[at], frame=batch.frame[at])
                with torch.no_grad():
                    found.append(game.model.forecast(one, game.members, game.seed)[0].double().mean(0))
            values[window, coalition] = torch.stack(found).mean(0)
        return values[window, coalition]

    total = [[torch.zeros(()) for _ in range(n)] for _ in range(len(batch))]
    for window in range(len(batch)):
        for order in permutations(range(n)):
            coalition = 0
            for player in order:
                gain = value(window, coalition | 1 << player) - value(window, coalition)
                total[window][player] = total[window][player] + gain / factorial(n)
                coalition |= 1 << player
    return torch.stack([torch.stack(of) for of in total])


def random_model(*overrides: str) -> Forecaster:
    """Return a model with random weights, none of them 0 as at the start of training."""
    model = build_model(resolve(load_config("demo", ["match_params=false", *overrides])))
    return randomized(model)


def randomized(model: Forecaster) -> Forecaster:
    """Fill the layers that start at 0 with random weights."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear) and not module.weight.any():
            module.weight.data.normal_(0, 0.1, generator=generator)
    return model.eval()
