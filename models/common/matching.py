"""Parameter matching: channel widths that give two arms the same number of parameters."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import numpy.typing as npt

Count = Callable[[Sequence[int]], int]
_BASE = 16
_MOVES = ((0,), (0, -1, 1), (0, -1, 1, -2, 2))
"""Channels by which each level may leave its common factor, in three attempts."""
_MOST_NUDGES = 3**6
_SEARCH_RADII = (3, 8)
"""Largest change of a level's channels in one search step; narrow networks need the larger value."""


def match_widths(count: Count, widths: Sequence[int], target: int, tolerance: float = 0.01) -> list[int]:
    """Return widths in the proportions of `widths` whose parameter count is `target` within the tolerance.

    All levels are multiplied by a common factor and rounded. If no factor matches, levels are rounded either way, then
    moved by one more channel. Of several matches, the one closest to the proportions is returned, then the one with
    the smallest difference in parameters. Equal proportions also keep the FLOPs: levels have different resolutions, so
    that parameters moved between levels change them.

    Args:
        count: Function from widths to the model's number of parameters; increases with each width.
        widths: Channels of each level.
        target: Target number of parameters.
        tolerance: Largest relative difference that counts as matched.

    Raises:
        ValueError: no widths within the tolerance were found.
    """
    first = tuple(widths)
    for quick in (as_quadratic(count, len(widths)), count):

        def key(candidate: tuple[int, ...], quick: Count = quick) -> tuple[float, int]:
            return round(_distortion(candidate, widths), 9), abs(quick(candidate) - target)

        for moves in _MOVES:
            candidates = {first, *_near_proportional(quick, widths, target, moves)}
            matched = [c for c in candidates if abs(quick(c) - target) <= tolerance * target]
            best = min(matched, key=key, default=None)
            if best and abs(count(best) - target) <= tolerance * target:
                return list(best)
    return match_levels(count, widths, target, tolerance)


def _near_proportional(count: Count, widths: Sequence[int], target: int, moves: Sequence[int]) -> set[tuple[int, ...]]:
    """Return the widths times factors around the one that meets the target, with each level moved by `moves`."""
    middle = _factor(count, widths, target)
    scaled = {_times(widths, middle * factor) for factor in np.linspace(0.93, 1.07, 141)}
    nudges = list(product(moves, repeat=len(widths)))[:_MOST_NUDGES]
    return {tuple(max(1, w + n) for w, n in zip(base, by, strict=True)) for base in scaled for by in nudges}


def _distortion(candidate: Sequence[int], widths: Sequence[int]) -> float:
    """Return the logarithm of the ratio of the largest to the smallest factor of a level."""
    factors = np.log(np.asarray(candidate) / np.asarray(widths))
    return float(factors.max() - factors.min())


def match_levels(count: Count, widths: Sequence[int], target: int, tolerance: float = 0.01) -> list[int]:
    """Return widths, roughly in the proportions of `widths`, whose parameter count is closest to `target`.

    A bisection over a common factor gives a first guess; a local search over one or two levels then refines it. This is
    how the widths of earlier runs were solved; their FLOPs differ by up to a fifth.

    Args:
        count: As in `match_widths`.
        widths: Initial channels of each level.
        target: Target number of parameters.
        tolerance: Largest relative difference that counts as matched.

    Raises:
        ValueError: no widths within the tolerance were found.
    """
    for quick in (as_quadratic(count, len(widths)), count):
        best = _search(quick, widths, target, tolerance)
        if abs(count(best) - target) <= tolerance * target:
            return list(best)
    raise ValueError(f"no widths near {list(widths)} give {target} parameters; nearest {list(best)}: {count(best)}")


def _search(count: Count, widths: Sequence[int], target: int, tolerance: float) -> tuple[int, ...]:
    @cache
    def gap(candidate: tuple[int, ...]) -> tuple[int, int]:
        # Ties go to the smallest change of the widths.
        return abs(count(candidate) - target), sum(abs(a - b) for a, b in zip(candidate, widths, strict=True))

    best = min(tuple(widths), _scaled(count, widths, target), key=gap)
    for reach in _SEARCH_RADII:
        while (nearer := min(_neighbours(best, reach), key=gap)) and gap(nearer) < gap(best):
            best = nearer
        if gap(best)[0] <= tolerance * target:
            break
    return best


def as_quadratic(count: Count, levels: int) -> Count:
    """Return a fast version of `count`, a quadratic polynomial fitted to a few models.

    The parameter count of a convolutional network is quadratic in its widths as long as no two are equal: a block
    between equal widths may have no shortcut. If the polynomial fails on either of two probes, `count` is returned.
    """
    unit, base = np.eye(levels, dtype=int), _BASE * (1 + np.arange(levels))
    points = [base + step for step in (0 * unit[0], *unit, *-unit)]
    points += [base + a + b for a, b in combinations(unit, 2)]
    terms = np.array([_terms(point) for point in points])
    coefficients = np.linalg.solve(terms, np.array([count(point.tolist()) for point in points], float))

    def quick(widths: Sequence[int]) -> int:
        return round(float(_terms(np.array(widths)) @ coefficients))

    probes = [[3 + 5 * i for i in range(levels)], [9 * levels - 7 * i for i in range(levels)]]
    return quick if all(quick(probe) == count(probe) for probe in probes) else count


def _terms(widths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the terms 1, wᵢ and wᵢ wⱼ, relative to the expansion point of the polynomial."""
    offset = widths.astype(float) - _BASE * (1 + np.arange(len(widths)))
    return np.array([1.0, *offset, *(a * b for a, b in combinations_with_replacement(offset, 2))])


def _scaled(count: Count, widths: Sequence[int], target: int) -> tuple[int, ...]:
    return _times(widths, _factor(count, widths, target))


def _factor(count: Count, widths: Sequence[int], target: int) -> float:
    """Return the common factor of the widths at which `count` crosses the target."""
    low, high = 0.1, 10.0
    for _ in range(12):
        middle = (low + high) / 2
        if count(_times(widths, middle)) < target:
            low = middle
        else:
            high = middle
    return low


def _times(widths: Sequence[int], factor: float) -> tuple[int, ...]:
    return tuple(max(1, round(factor * w)) for w in widths)


def _neighbours(widths: tuple[int, ...], reach: int) -> list[tuple[int, ...]]:
    """Return all widths that differ by up to `reach` channels in one or two levels."""
    levels, nudges = range(len(widths)), [n for n in range(-reach, reach + 1) if n]
    single = [_nudge(widths, {i: n}) for i in levels for n in nudges]
    return single + [_nudge(widths, {i: n, j: m}) for i, j in combinations(levels, 2) for n in nudges for m in nudges]


def _nudge(widths: tuple[int, ...], by: dict[int, int]) -> tuple[int, ...]:
    return tuple(max(1, w + by.get(i, 0)) for i, w in enumerate(widths))
