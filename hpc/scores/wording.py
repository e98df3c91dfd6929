"""Scores and their comparisons as text: numbers with a minus sign, percent for ratios, and which values are better."""

from polarcast.hpc.scores.metrics import Metric
from polarcast.hpc.scores.stats.paired import RATIO

MINUS = "−"


def number(value: float, signed: bool = False) -> str:
    """Return a value with three significant digits, such as `1.23`, or `+1.23` if it is signed."""
    plus = "+" if signed else ""
    return _with_minus(f"{value:{plus}#.3g}" if abs(value) < 100 else f"{value:{plus}.0f}")


def percent(share: float, signed: bool = False) -> str:
    """Return a share in percent with two significant digits above 1%, such as `31%`, or `−3.1%` if it is signed."""
    plus, value = "+" if signed else "", 100 * share
    digits = 0 if abs(value) >= 9.95 else 1 if abs(value) >= 0.995 else 2
    return _with_minus(f"{value:{plus}.{digits}f}%")


def effect(value: float, scale: str) -> str:
    """Return a comparison on its scale: percent for a ratio, otherwise a number, both with their sign."""
    return percent(value, signed=True) if scale == RATIO else number(value, signed=True)


def size(value: float, scale: str) -> str:
    """Return the size of a comparison on its scale, without its sign."""
    return percent(abs(value)) if scale == RATIO else number(abs(value))


def arrow(metric: Metric) -> str:
    """Return a mark of the better values: ↓ lower, ↑ higher, → and the best value; empty if none are better."""
    return {"lower": "↓", "higher": "↑", "target": f"→ {metric.perfect:g}", "none": ""}[metric.direction]


def _with_minus(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text
