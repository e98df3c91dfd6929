"""Exact Shapley values from the values of all coalitions."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_STEP = 1e-4
"""Relative step of differences; the truncation error is its square."""


def shapley_values(values: npt.ArrayLike, players: int) -> Array:
    """Compute Shapley values, φ_i = Σ_S |S|! (n − |S| − 1)! / n! · (v(S ∪ {i}) − v(S)), over all S without player i.

    They are the only attribution that adds up to v(all) − v(∅) (efficiency), treats interchangeable players alike
    (symmetry), gives 0 to a player who changes nothing (dummy), and is linear in v.

    Args:
        values: Value of each coalition, (2^n, …). Bit i of the first index is set if player i is present.
        players: Number of players n.

    Returns:
        Value of each player, (n, …) in float64. NaN in a coalition makes the values of all players NaN.

    Raises:
        ValueError: the first axis is not of length 2^n.

    References:
        Shapley (1953), A value for n-person games; Lundberg & Lee (2017), A unified approach to interpreting model
        predictions, equation 4.
    """
    of_coalitions = np.asarray(values, dtype=np.float64)
    if players < 1 or of_coalitions.shape[:1] != (2**players,):
        raise ValueError(f"{players} players have {2 ** max(players, 0)} coalitions, got {of_coalitions.shape[:1]}")
    last = np.moveaxis(of_coalitions, 0, -1)
    return np.stack([_weighted_gains(last, weights) for weights in shapley_weights(players)])


@lru_cache(maxsize=16)
def shapley_weights(players: int) -> Array:
    """Return the matrix W, (n, 2^n), with φ = W v; it is positive where the player is present. It is read-only."""
    present = membership(players)
    size = present.sum(0)
    # |S|! (n − |S| − 1)! / n! = 1 / (n · C(n − 1, |S|)), where S is the coalition without player i.
    weight = np.array([1 / (players * comb(players - 1, others)) for others in range(players)])
    weights = np.where(present, weight[size - 1], -weight[np.minimum(size, players - 1)])
    weights.setflags(write=False)
    return weights


def _weighted_gains(values: Array, weights: Array) -> Array:
    """Return Σ_S w_S (v(S ∪ {i}) − v(S)), (…), of the player i whose weights these are, from values (…, 2^n).

    Differences come first, so that a player who changes nothing has exactly 0.
    """
    # Both in ascending order, so that S ∪ {i} stands beside S.
    joined, without = np.flatnonzero(weights > 0), np.flatnonzero(weights < 0)
    gains: Array = (values[..., joined] - values[..., without]) @ weights[joined]
    return gains


def membership(players: int) -> npt.NDArray[np.bool_]:
    """Return whether each player is present in each coalition, (n, 2^n)."""
    return (np.arange(2**players) >> np.arange(players)[:, None] & 1).astype(bool)


@dataclass(frozen=True)
class ShapleyStatistic:
    """Shapley value of one player as a function of the sums of all coalitions, Σ_S w_S f(sums of S).

    `bootstrap.interval` takes it as a statistic. Its derivative along a sum involves one coalition only, so that all
    coalitions are varied at once: s differences of f instead of 2^n · s of the whole.

    Attributes:
        value_of: Value f of a coalition, a function of its sums (…, s).
        weights: Weight of each coalition, (2^n,), a row of `shapley_weights`.
        memory: Values and slopes of f by a digest of the sums; players of one game share it.
    """

    value_of: Callable[[Array], Array]
    weights: Array
    memory: dict[tuple[str, tuple[int, ...], bytes], Array] = field(default_factory=dict, repr=False)

    def __call__(self, sums: Array) -> Array:
        """Return the value (…) from sums (…, 2^n · s), coalition by coalition."""
        return _weighted_gains(self._once("values", sums, self.value_of), self.weights)

    def gradient(self, at: Array, used: npt.NDArray[np.int64]) -> Array:
        """Return central differences along the used sums, (…, len(used)); see `bootstrap.Differentiable`."""
        slopes = self._once("slopes", at, self._slopes) * self.weights[:, None]
        return slopes.reshape(at.shape)[..., used]

    def _slopes(self, sums: Array) -> Array:
        """Return the derivatives of the value of each coalition along its own sums, (…, 2^n, s)."""
        scale = 1e-8 * np.abs(sums).max((-2, -1), keepdims=True)
        size = np.maximum(np.abs(sums), scale) * _STEP
        slopes = np.empty_like(sums)
        for j in range(sums.shape[-1]):
            change = np.zeros_like(sums)
            change[..., j] = size[..., j]
            with np.errstate(divide="ignore", invalid="ignore"):
                slopes[..., j] = (self.value_of(sums + change) - self.value_of(sums - change)) / (2 * size[..., j])
        return slopes

    def _once(self, name: str, sums: Array, function: Callable[[Array], Array]) -> Array:
        """Return a function of the sums by coalition, (…, 2^n, s), computed once for all players."""
        key = name, sums.shape, hashlib.blake2b(np.ascontiguousarray(sums).data).digest()
        if key not in self.memory:
            self.memory[key] = function(sums.reshape(*sums.shape[:-1], len(self.weights), -1))
        return self.memory[key]


def shapley_statistics(value_of: Callable[[Array], Array], players: int) -> list[ShapleyStatistic]:
    """Return the statistic of each player of a game; what they have in common is computed once."""
    memory: dict[tuple[str, tuple[int, ...], bytes], Array] = {}
    return [ShapleyStatistic(value_of, weights, memory) for weights in shapley_weights(players)]
