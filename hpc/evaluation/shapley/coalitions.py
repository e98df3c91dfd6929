"""Forecasts of all coalitions: present players from the window explained, absent ones from its donors.

The value of a coalition S is the mean of the forecasts over the background, f_S(x) = mean over b of f(x_S, b_rest).
Random numbers of a model are keyed by event and frame; they stay those of the window explained, so that all of its
coalitions see the same noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.evaluation.scorers import scored
from polarcast.hpc.evaluation.shapley.players import Players
from polarcast.hpc.scores.stats.shapley import shapley_weights
from polarcast.models.forecaster import Forecaster

_PIXELS_AT_ONCE, _PIXELS_AT_ONCE_GPU = 2**15, 2**22
"""Pixels of a forward pass: on a CPU, the activations of so many stay in a core's cache."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Explained:
    """Windows with their background, on the device of the model.

    Attributes:
        batch: The windows explained, with targets where scores are computed.
        pool: Radar fields of the donors, (p, t, v, z, y, x).
        donors: Position in the pool of the donors of each window, (w, d).
        donors_of_rest: The same for the complementary coalition; None where donors do not depend on the coalition.
        is_mutual: Whether the pool is the windows themselves, and each window is a donor of its own donors. One
            evaluation then serves two coalitions; this needs a forecast without random numbers.
    """

    batch: Batch
    pool: Tensor
    donors: Indices
    donors_of_rest: Indices | None = None
    is_mutual: bool = False


@dataclass(frozen=True)
class CoalitionForecasts:
    """Forecasts of a model for coalitions of players.

    Attributes:
        model: The model, in evaluation mode.
        players: The players.
        members: Ensemble size.
        seed: Seed of the model's random numbers.
    """

    model: Forecaster
    players: Players
    members: int = 1
    seed: int = 0

    @torch.inference_mode()
    def forecast(self, batch: Batch) -> Tensor:
        """Return the usual forecast of windows, (w, m, t, …): that of the coalition of all players."""
        return self.model.forecast(batch, self.members, self.seed)

    def uses_noise(self, batch: Batch) -> bool:
        """Return whether the forecast depends on random numbers, from windows with two seeds.

        Give several windows of other groups: without echo, a forecast of no rain may hide them.
        """
        first, second = (replace(self, seed=seed)._all(batch) for seed in (0, 1))
        return not torch.equal(first.nan_to_num(), second.nan_to_num())

    @torch.inference_mode()
    def pair(self, given: Explained, coalition: int) -> tuple[Tensor, Tensor]:
        """Return the mean forecasts over the background of a coalition and of its complement, both (w, m, t, …).

        Means are accumulated in float64. For no players, the complement is the usual forecast, from one evaluation.
        """
        if coalition == 0:
            return self._nobody_and_all(given)
        of, rest = coalition, self.players.coalitions - 1 - coalition
        if given.is_mutual:
            return self._means(given, of, given.donors, both=True)
        others = given.donors if given.donors_of_rest is None else given.donors_of_rest
        return self._means(given, of, given.donors)[0], self._means(given, rest, others)[0]

    def _nobody_and_all(self, given: Explained) -> tuple[Tensor, Tensor]:
        whole = self._all(given.batch).double()
        if given.is_mutual:
            return whole[torch.from_numpy(given.donors).to(whole.device)].mean(1), whole
        return self._means(given, 0, given.donors)[0], whole

    def _all(self, batch: Batch) -> Tensor:
        parts = np.arange(len(batch))
        size = self._at_once(batch)
        return torch.cat([self.forecast(_chosen(batch, parts[i : i + size])) for i in range(0, len(parts), size)])

    def _means(self, given: Explained, coalition: int, donors: Indices, both: bool = False) -> tuple[Tensor, Tensor]:
        """Return the mean forecasts of a coalition and, if `both`, of its complement for the donors as windows."""
        device = given.pool.device
        present = torch.from_numpy(self.players.fields_of(coalition)).to(device)[..., None, None]
        own = torch.arange(len(donors), device=device).repeat_interleave(donors.shape[1])
        other = torch.from_numpy(donors).to(device).flatten()
        means: Tensor | None = None
        size = self._at_once(given.batch)
        for x, b in zip(own.split(size), other.split(size), strict=True):
            mixed = torch.where(present, given.batch.radar[x], given.pool[b])
            found = self.forecast(_chosen(given.batch, x, mixed)).double() / donors.shape[1]
            if means is None:
                means = found.new_zeros(2 if both else 1, len(donors), *found.shape[1:])
            means[0].index_add_(0, x, found)
            if both:
                means[1].index_add_(0, b, found)
        assert means is not None
        return means[0], means[-1]

    def _at_once(self, batch: Batch) -> int:
        pixels = batch.radar.shape[-1] * batch.radar.shape[-2]
        return max(1, (_PIXELS_AT_ONCE_GPU if batch.radar.is_cuda else _PIXELS_AT_ONCE) // pixels)

    def attributions(self, given: Explained) -> Tensor:
        """Return the Shapley values of the ensemble mean, (w, n, t, …) in float64, computed on all cores.

        They add up to the usual forecast minus the mean forecast of the donors.
        """
        workers = torch.get_num_threads() if not given.pool.is_cuda else 1
        pairs = scored(lambda coalition: (coalition, *self.pair(given, coalition)), self.halves(), workers)
        return sum_of_shares(self.players, pairs)

    def halves(self) -> Iterator[int]:
        """Yield one coalition of each complementary pair: those without the last player, 0 first."""
        yield from range(self.players.coalitions // 2)


def sum_of_shares(players: Players, pairs: Iterator[tuple[int, Tensor, Tensor]]) -> Tensor:
    """Return the Shapley values, (w, n, t, …), from the forecasts of complementary coalitions, (w, m, t, …) each."""
    total: Tensor | None = None
    for coalition, of, rest in pairs:
        if total is None:
            total = of.new_zeros(len(of), len(players), *of.shape[2:])
        add_shares(total, players, coalition, of.mean(1), rest.mean(1))
    assert total is not None
    return total


def add_shares(total: Tensor, players: Players, coalition: int, of: Tensor, rest: Tensor) -> None:
    """Add what two complementary coalitions, (w, …) each, contribute to the Shapley values (w, n, …), in place.

    The weights of complementary coalitions are opposite: |S|! (n − |S| − 1)! / n! is that of both S and the rest
    without i.
    """
    weights = torch.from_numpy(shapley_weights(len(players))[:, players.coalitions - 1 - coalition].copy())
    share = weights.to(total).view(-1, *[1] * (total.ndim - 2))
    total.addcmul_(share, (rest - of)[:, None])


def _chosen(batch: Batch, windows: Tensor | npt.ArrayLike, radar: Tensor | None = None) -> Batch:
    """Return the input of some windows, or other fields with their random numbers, without targets."""
    index = torch.as_tensor(windows)
    fields = batch.radar[index.to(batch.radar.device)] if radar is None else radar
    at = index.to(batch.event.device)
    return Batch(fields, None, batch.event[at], batch.frame[at], batch.variables, batch.heights_km)
