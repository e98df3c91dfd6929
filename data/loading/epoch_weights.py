"""Number of occurrences of each window in an epoch: one, or proportional to its weight."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from polarcast.data.loading.permute import Indices, keys_of, uniform

_OFFSET = 0x0FF5E7


class EpochWeights:
    """Assignment of the entries of an epoch to windows; an epoch has as many entries as windows.

    With weights, the entries are a systematic sample: n equidistant marks on the cumulative weights, with a random
    shift per epoch. A window with share s of all weights occurs ⌊n s⌋ or ⌈n s⌉ times in every epoch.
    """

    def __init__(self, windows: int, seed: int = 0, weights: npt.NDArray[np.float64] | None = None) -> None:
        """Create the assignment.

        Args:
            windows: Number of windows.
            seed: Seed of the shifts.
            weights: Weights of the windows, (windows,); by default each window occurs once.

        Raises:
            ValueError: A weight is negative or not finite, or all are zero.
        """
        self._windows, self._seed = windows, seed
        self._cumulated = None if weights is None else _cumulated(weights)

    def __len__(self) -> int:
        """Number of windows, and of entries in an epoch."""
        return self._windows

    def window(self, entry: Indices, epoch: Indices) -> Indices:
        """Return the window of each entry; non-decreasing in the entry."""
        if self._cumulated is None:
            return np.asarray(entry)
        shift = uniform(keys_of(self._seed, np.atleast_1d(epoch), _OFFSET))
        found = np.searchsorted(self._cumulated, (np.asarray(entry) + shift) / self._windows, side="right")
        return np.minimum(found, self._windows - 1)

    def entries_before(self, window: Indices, epoch: int) -> Indices:
        """Count the entries of an epoch that belong to windows with a lower number."""
        return window if self._cumulated is None else np.searchsorted(self._epoch(epoch), window, side="left")

    @lru_cache(maxsize=2)  # noqa: B019 — the weights live as long as their reader
    def _epoch(self, epoch: int) -> Indices:
        return self.window(np.arange(self._windows), np.full(1, epoch))


def balanced_weights(intensity: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    """Compute weights with which a share of the draws is proportional to intensity, and the rest uniform.

    Args:
        intensity: Intensity of each window, (windows,), not negative.
        share: Share of the draws by intensity, 0 … 1.

    Returns:
        Weights with mean 1; all 1 if every intensity is zero.
    """
    mean = float(intensity.mean())
    relative = intensity / mean if mean else np.ones_like(intensity)
    return (1 - share) + share * relative


def _cumulated(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("weights must be finite and not negative, and some positive")
    sums = np.cumsum(weights, dtype=np.float64)
    return sums / sums[-1]
