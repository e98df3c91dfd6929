"""Intervals as small drawings beside their numbers, on a scale that a column of a table shares."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

_MINUS = "−"
_WIDTH, _HEIGHT, _EDGE = 120, 16, 6
_STRETCH = 8.0
"""Limits beyond this multiple of the upper quartile are cut off, so that one wide interval does not hide the rest."""
_NUMBER = r"[+\-−]?\d[\d,]*(?:\.\d+)?(?:e[+\-]?\d+)?"
_INTERVAL = re.compile(rf"\[\s*({_NUMBER})%?\s*,\s*({_NUMBER})%?\s*\]")
_FIRST = re.compile(rf"^\s*({_NUMBER})")


@dataclass(frozen=True)
class BarScale:
    """Axis of interval bars.

    Attributes:
        low, high: Its ends.
        line: Value of the reference line, such as 0 for no effect; None without one.
    """

    low: float
    high: float
    line: float | None = None

    @classmethod
    def around(cls, values: Iterable[float | None], line: float | None = None) -> "BarScale":
        """Return the axis that shows these limits and the line; very far ones are cut off."""
        centre = 0.0 if line is None else line
        known = sorted(v for v in values if v is not None and math.isfinite(v))
        if not known:
            return cls(centre - 1, centre + 1, line)
        distances = sorted(abs(v - centre) for v in known)
        reach = _STRETCH * distances[(3 * (len(distances) - 1)) // 4] or distances[-1]
        kept = [v for v in known if line is None or abs(v - centre) <= reach] or known
        ends = [*kept, *([] if line is None else [line])]
        margin = 0.04 * (max(ends) - min(ends)) or abs(max(ends)) * 0.1 or 1.0
        return cls(min(ends) - margin, max(ends) + margin, line)

    def place(self, value: float) -> float:
        """Return the horizontal position of a value in pixels, at most at an end."""
        share = (value - self.low) / (self.high - self.low)
        return round(_EDGE + (_WIDTH - 2 * _EDGE) * min(max(share, 0.0), 1.0), 1)

    def holds(self, value: float) -> bool:
        """Return whether a value is between the ends."""
        return self.low <= value <= self.high


def interval_bar(
    value: float | None, low: float | None, high: float | None, scale: BarScale, shown: bool | None = None
) -> str:
    """Return an interval as SVG; empty without limits.

    An effect that is shown has a thick bar and a filled point, another a thin dashed bar and a hollow point. The
    drawing is hidden from screen readers, because the numbers stand beside it.

    Args:
        value: Value, drawn as a point.
        low: Lower limit.
        high: Upper limit.
        scale: Axis, common to a column.
        shown: Whether the interval shows an effect; None for the interval of a plain number.
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    middle = _HEIGHT // 2
    left, right = scale.place(low), scale.place(high)
    parts = [f'<path class="axis" d="M{_EDGE} {middle}H{_WIDTH - _EDGE}"/>']
    if scale.line is not None:
        parts.append(f'<path class="line" d="M{scale.place(scale.line)} 1V{_HEIGHT - 1}"/>')
    parts.append(f'<path class="interval" d="M{left} {middle}H{max(right, left + 1)}"/>')
    parts += [f'<path class="cut" d="M5 {middle - 4}L1 {middle}L5 {middle + 4}"/>'] * (not scale.holds(low))
    end = _WIDTH - 1
    parts += [f'<path class="cut" d="M{end - 4} {middle - 4}L{end} {middle}L{end - 4} {middle + 4}"/>'] * (
        not scale.holds(high)
    )
    if value is not None and scale.holds(value):
        parts.append(f'<circle cx="{scale.place(value)}" cy="{middle}" r="3.2"/>')
    kind = "bar" + {None: " plain", True: " shown", False: ""}[shown]
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg class="{kind}" {size} aria-hidden="true" focusable="false">{"".join(parts)}</svg>'


def interval_in(text: str) -> tuple[float, float] | None:
    """Return the limits of an interval in a text, such as `+1.2 [−0.3, 2.7]`; None without one."""
    found = _INTERVAL.search(text)
    return (_parsed(found[1]), _parsed(found[2])) if found else None


def number_in(text: str) -> float | None:
    """Return the number that a text begins with, such as −31 of `−31%**`; None if it begins with another text."""
    found = _FIRST.match(text)
    return _parsed(found[1]) if found else None


def _parsed(text: str) -> float:
    return float(text.replace(",", "").replace(_MINUS, "-"))
