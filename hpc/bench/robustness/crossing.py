"""Level of a perturbation at which a gain is gone, with the interval that its confidence band gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Crossing:
    """Where a curve of gains, followed from the level that changes nothing, first reaches 0.

    Attributes:
        reach: Last level examined, before a gain that is undefined.
        level: Level at which the gain is gone, by linear interpolation; None if it is not within the levels.
        low: Smallest level at which the interval of the gain contains 0; None if there is none within the levels.
        high: Smallest level at which the interval is entirely below 0; None if there is none.
        has_band: Whether the gains have intervals.
    """

    reach: float
    level: float | None
    low: float | None
    high: float | None
    has_band: bool

    def text(self, unit: str = "") -> str:
        """Return it as text, such as `0.31 dB [0.2, 0.45]`, or `> 0.5 dB [0.4, beyond]`."""
        beyond = f"{'>' if self.reach >= 0 else '<'} {self.reach:.3g}"
        level = beyond if self.level is None else f"{self.level:.3g}"
        limits = ["beyond" if end is None else f"{end:.3g}" for end in (self.low, self.high)]
        band = f" [{', '.join(limits)}]" if self.has_band and (self.low, self.level) != (None, None) else ""
        return f"{level}{f' {unit}' if unit else ''}{band}"


def crossing(
    levels: Sequence[float], gains: Sequence[float], lows: Sequence[float], highs: Sequence[float]
) -> Crossing:
    """Find where a gain is gone.

    The limits are a confidence set by inversion of the test at each level (as Fieller's 1954): the levels at which the
    hypothesis of no gain is not rejected. Between levels, gains and limits are interpolated linearly; nothing is
    extrapolated.

    Args:
        levels: Levels in the order away from the one that changes nothing, which is the first.
        gains: Gain at each level; positive if the second arm is better. Those from the first NaN on are not known.
        lows, highs: Limits of its interval; NaN without one.
    """
    known = next((n for n, gain in enumerate(gains) if math.isnan(gain)), len(gains))
    if not known:
        return Crossing(levels[0], None, None, None, False)
    levels, gains, lows, highs = (values[:known] for values in (levels, gains, lows, highs))
    has_band = all(math.isfinite(limit) for limit in (*lows, *highs))
    low, high = (_first_zero(levels, limits) if has_band else None for limits in (lows, highs))
    return Crossing(levels[-1], _first_zero(levels, gains), low, high, has_band)


def _first_zero(levels: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the first level at which the values are 0 or below, None if there is none."""
    for position, value in enumerate(values):
        if value <= 0:
            if position == 0:
                return levels[0]
            before, step = values[position - 1], levels[position] - levels[position - 1]
            return levels[position - 1] + step * before / (before - value)
    return None
