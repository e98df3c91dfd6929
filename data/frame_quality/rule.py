"""Rule by which frames are labelled good or poor: many rainy cells, few zeros, large spread (source paper §8.3).

The paper labels 300 frames by eye. Here the rule is explicit: thresholds are quantiles over all training frames.
"""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

QUALITY, RANDOM = "quality", "random"
DROP_RULES = (QUALITY, RANDOM)
"""Rules by which training windows are dropped; random is the control for quality."""
RAINY_QUANTILE = 0.3
"""A good frame has at least this quantile of the share of rainy cells."""
ZEROS_QUANTILE = 0.7
"""A good frame has at most this quantile of the share of zeros."""
SPREAD_QUANTILE = 0.3
"""A good frame has at least this quantile of the spread."""


@dataclass(frozen=True)
class Rule:
    """Thresholds of a good frame.

    Attributes:
        rainy: Smallest share of rainy cells.
        zeros: Largest share of zeros.
        spread: Smallest standard deviation, in units of the variables' usual ranges.
    """

    rainy: float
    zeros: float
    spread: float

    @classmethod
    def of(cls, summary: npt.NDArray[np.float64]) -> "Rule":
        """Derive the thresholds from the summaries of all training frames, (n, 3); see `features.summary_of`."""
        rainy, zeros, spread = summary.T
        return cls(
            float(np.quantile(rainy, RAINY_QUANTILE)),
            float(np.quantile(zeros, ZEROS_QUANTILE)),
            float(np.quantile(spread, SPREAD_QUANTILE)),
        )

    def is_good(self, summary: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Label frames by their summaries (n, 3): good if all three conditions hold."""
        rainy, zeros, spread = summary.T
        return (rainy >= self.rainy) & (zeros <= self.zeros) & (spread >= self.spread)

    def as_record(self) -> dict[str, float]:
        """Return the thresholds as plain values."""
        return asdict(self)
