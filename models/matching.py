"""Matched compute: channel widths for which two arms have the same number of parameters."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

Count = Callable[[Sequence[int]], int]
_NUDGES = (-3, -2, -1, 1, 2, 3)


def match_widths(count: Count, widths: Sequence[int], target: int, tolerance: float = 0.01) -> list[int]:
    """Widths near `widths`, about in their proportions, for which `count` comes closest to `target`.

    A bisection of one common factor comes near; then single channels are added or taken while that helps.

    Args:
        count: Number of parameters of the model with given widths; grows with each width.
        widths: Channels of each level to start from.
        target: Number of parameters to reach.
        tolerance: Largest relative difference that counts as matched.

    Raises:
        ValueError: no widths come within the tolerance.
    """

    @cache
    def gap(candidate: tuple[int, ...]) -> tuple[int, int]:
        # Among equals the smallest change of the shape wins.
        return abs(count(candidate) - target), sum(abs(a - b) for a, b in zip(candidate, widths, strict=True))

    best = min(tuple(widths), _scaled(count, widths, target), key=gap)
    while (nearer := min(_neighbours(best), key=gap)) and gap(nearer) < gap(best):
        best = nearer
    if gap(best)[0] > tolerance * target:
        raise ValueError(f"no widths near {list(widths)} have {target} parameters; nearest {list(best)}: {count(best)}")
    return list(best)


def _scaled(count: Count, widths: Sequence[int], target: int) -> tuple[int, ...]:
    """The common factor at which `count` passes the target, applied to the widths."""
    low, high = 0.1, 10.0
    for _ in range(12):
        middle = (low + high) / 2
        if count(_times(widths, middle)) < target:
            low = middle
        else:
            high = middle
    return _times(widths, low)


def _times(widths: Sequence[int], factor: float) -> tuple[int, ...]:
    return tuple(max(1, round(factor * w)) for w in widths)


def _neighbours(widths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Widths that differ in one level, or in two of them."""
    levels = range(len(widths))
    single = [_nudge(widths, {i: n}) for i in levels for n in _NUDGES]
    return single + [_nudge(widths, {i: n, j: m}) for i, j in combinations(levels, 2) for n in _NUDGES for m in _NUDGES]


def _nudge(widths: tuple[int, ...], by: dict[int, int]) -> tuple[int, ...]:
    return tuple(max(1, w + by.get(i, 0)) for i, w in enumerate(widths))
