"""Upper quantiles of a resampled distribution, with a fitted tail beyond what the draws resolve."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_SHARE = 0.05
"""Share of the draws that the tail is fitted to; the limits of a 95% interval are not extrapolated."""
_FEWEST = 50


@dataclass(frozen=True)
class UpperTail:
    """Exceedance probabilities of a sample, extended by a generalized Pareto distribution.

    A count of draws can't give a p-value below 1 / draws, so that no correction for many tests could be passed.

    Attributes:
        ordered: The finite values of the sample, ascending, (n,).
        infinite: Share of the sample that is infinite, so that smaller probabilities have no finite quantile.
        share: Share of the finite values above the start of the tail.
        start: Value at the start of the tail.
        shape: Shape of the distribution of the exceedances; at least 0, so that no value is impossible.
        scale: Its scale; 0 without a fitted tail.
    """

    ordered: Array
    infinite: float
    share: float
    start: float
    shape: float
    scale: float

    def quantile(self, probability: Array | float) -> Array:
        """Return the values that are exceeded with given probabilities, in their shape."""
        given = np.asarray(probability, np.float64)
        if not len(self.ordered):
            return np.full(given.shape, np.inf)
        p = np.maximum((given - self.infinite) / (1 - self.infinite), 0)  # among the finite values
        inside = _quantile_of_sorted(self.ordered, 1 - np.clip(p, self.share, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(self.share / np.minimum(p, self.share))
            excess = np.expm1(self.shape * ratio) / self.shape if self.shape else ratio
            return np.where(p > 0, inside + self.scale * excess, np.inf)


def _quantile_of_sorted(ordered: Array, share: Array) -> Array:
    """Return `np.quantile(ordered, share)` of an ascending sample, which that function would sort in part each time."""
    position = share * (len(ordered) - 1)
    below = np.floor(position).astype(int)
    low, high = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)]
    part = position - below
    # As in NumPy, from the nearer end: exact at both.
    return np.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1 - part))


def upper_tail(sample: Array) -> UpperTail:
    """Fit the highest finite draws of a sample (n,) by probability-weighted moments.

    A sample may hold infinite values, but no NaN.

    References:
        Hosking & Wallis (1987), the estimator; Knijnenburg et al. (2009), tails of permutation tests.
    """
    ordered = np.sort(sample[np.isfinite(sample)])
    infinite = 1 - len(ordered) / max(len(sample), 1)
    count = int(_SHARE * len(ordered))
    if count < _FEWEST:
        return UpperTail(ordered, infinite, 1 / max(len(ordered), 1), 0.0, 0.0, 0.0)
    start = float(np.quantile(ordered, 1 - _SHARE))
    excess = ordered[-count:] - start
    rank = (np.arange(1, count + 1) - 0.35) / count
    mean, weighted = float(excess.mean()), float(((1 - rank) * excess).mean())
    spread = mean - 2 * weighted
    shape = 2 - mean / spread if spread > 0 else 0.0
    if shape <= 0:  # lighter than exponential
        return UpperTail(ordered, infinite, _SHARE, start, 0.0, mean)
    return UpperTail(ordered, infinite, _SHARE, start, shape, 2 * mean * weighted / spread)
