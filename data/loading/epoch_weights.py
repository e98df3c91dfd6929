"""How often each window comes in an epoch: once, or as often as its weight asks for."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from polarcast.data.loading.permute import Indices, keys_of, uniform

_OFFSET = 0x0FF5E7


class EpochWeights:
    """An epoch has as many entries as there are windows; each belongs to a window.

    By weight, the entries are a systematic sample: n equidistant marks on the cumulated weights, shifted at random from
    epoch to epoch. A window whose share of all weights is s comes ⌊n s⌋ or ⌈n s⌉ times in every epoch.
    """

    def __init__(self, windows: int, seed: int = 0, weights: npt.NDArray[np.float64] | None = None) -> None:
        """For `windows` windows, with their weights (windows,) unless all come once.

        Raises:
            ValueError: a weight is negative or not finite, or all are zero.
        """
        self._windows, self._seed = windows, seed
        self._cumulated = None if weights is None else _cumulated(weights)

    def __len__(self) -> int:
        """Number of windows, and of entries in an epoch."""
        return self._windows

    def window(self, entry: Indices, epoch: Indices) -> Indices:
        """The window of each entry; grows with the entry."""
        if self._cumulated is None:
            return np.asarray(entry)
        shift = uniform(keys_of(self._seed, np.atleast_1d(epoch), _OFFSET))
        found = np.searchsorted(self._cumulated, (np.asarray(entry) + shift) / self._windows, side="right")
        return np.minimum(found, self._windows - 1)

    def entries_before(self, window: Indices, epoch: int) -> Indices:
        """How many entries of an epoch belong to windows of lower number."""
        return window if self._cumulated is None else np.searchsorted(self._epoch(epoch), window, side="left")

    @lru_cache(maxsize=2)  # noqa: B019 — lives as long as its reader
    def _epoch(self, epoch: int) -> Indices:
        return self.window(np.arange(self._windows), np.full(1, epoch))


def balanced_weights(intensity: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    """Weights with which `share` of the draws go by intensity, the rest to all windows alike.

    Args:
        intensity: Of each window, not negative.
        share: 0 … 1.

    Returns:
        Weights of mean one; all one where there is no intensity at all.
    """
    mean = float(intensity.mean())
    relative = intensity / mean if mean else np.ones_like(intensity)
    return (1 - share) + share * relative


def _cumulated(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("weights must be finite and not negative, and some positive")
    sums = np.cumsum(weights, dtype=np.float64)
    return sums / sums[-1]
