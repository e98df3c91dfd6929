"""Joint histogram of a quantity with ZH, from which its quantiles at given ZH follow in constant memory."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.floating]

_HIGHEST_DBZ = 70
FEWEST_VALUES = 300
"""Least number of values for quantiles; fewer give NaN."""


@dataclass
class JointHistogram:
    """Counts by ZH, in bins of 1 dB from 0 to 70 dBZ, and by the values of another quantity in fine bins.

    Attributes:
        low: Least value; smaller ones count as this.
        high: Greatest value; larger ones count as this.
        step: Width of the bins of values: the error of a quantile is smaller.
        counts: (zh bin, value bin).
    """

    low: float
    high: float
    step: float
    counts: npt.NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Start without values."""
        self.counts = np.zeros((_HIGHEST_DBZ, round((self.high - self.low) / self.step)), np.int64)

    def add(self, zh: Real, values: Real) -> None:
        """Count values at given ZH in dBZ, (n,) each; ZH outside of 0 to 70 dBZ is not counted."""
        inside = (zh >= 0) & (zh < _HIGHEST_DBZ) & np.isfinite(values)
        bins = self.counts.shape[1]
        column = np.floor((values[inside].astype(np.float64) - self.low) / self.step).clip(0, bins - 1).astype(np.intp)
        flat = zh[inside].astype(np.intp) * bins + column
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)

    def number(self, low_dbz: int, high_dbz: int) -> int:
        """Return the number of values where ZH is in [low, high) dBZ."""
        return int(self.counts[low_dbz:high_dbz].sum())

    def quantiles(self, low_dbz: int, high_dbz: int, shares: tuple[float, ...]) -> Real:
        """Return quantiles of the values where ZH is in [low, high) dBZ; NaN for fewer than 300 values."""
        counts = self.counts[low_dbz:high_dbz].sum(axis=0)
        if (total := counts.sum()) < FEWEST_VALUES:
            return np.full(len(shares), np.nan)
        filled = np.flatnonzero(counts)
        # The position of each filled bin's lower and upper edge on the cumulated counts.
        upper = np.cumsum(counts[filled])
        known = np.stack([upper - counts[filled], upper], axis=1).ravel()
        edges = self.low + self.step * np.stack([filled, filled + 1], axis=1).ravel()
        return np.asarray(np.interp(np.array(shares) * total, known, edges))

    def mean(self, low_dbz: int, high_dbz: int) -> float:
        """Return the mean of the values where ZH is in [low, high) dBZ; NaN for fewer than 300 values."""
        counts = self.counts[low_dbz:high_dbz].sum(axis=0)
        if (total := counts.sum()) < FEWEST_VALUES:
            return float("nan")
        centers = self.low + self.step * (np.arange(len(counts)) + 0.5)
        return float((counts * centers).sum() / total)
