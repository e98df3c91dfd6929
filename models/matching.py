"""Matched compute: channel widths for which two arms have the same number of parameters."""

from collections.abc import Callable, Sequence
from itertools import product

Count = Callable[[Sequence[int]], int]
_SCALES = [1 + 0.01 * i for i in range(-60, 101)]
_NUDGES = (-2, -1, 0, 1, 2)


def match_widths(count: Count, widths: Sequence[int], target: int, tolerance: float = 0.01) -> list[int]:
    """Widths near `widths`, in their proportions, for which `count` comes closest to `target`.

    Args:
        count: Number of parameters of the model with given widths; grows with each width.
        widths: Channels of each level to start from.
        target: Number of parameters to reach.
        tolerance: Largest relative difference that counts as matched.

    Raises:
        ValueError: no widths come within the tolerance.
    """

    def gap(candidate: Sequence[int]) -> tuple[float, int]:
        # Among equals the smallest change of the shape wins.
        return abs(count(candidate) - target), sum(abs(a - b) for a, b in zip(candidate, widths, strict=True))

    scaled = min(({tuple(max(1, round(s * w)) for w in widths) for s in _SCALES}), key=gap)
    nudged = (
        tuple(max(1, w + n) for w, n in zip(scaled, nudges, strict=True))
        for nudges in product(*[_nudges_of(i, len(widths)) for i in range(len(widths))])
    )
    best = min(nudged, key=gap)
    if gap(best)[0] > tolerance * target:
        raise ValueError(f"no widths near {list(widths)} have {target} parameters; nearest {list(best)}: {count(best)}")
    return list(best)


def _nudges_of(level: int, levels: int) -> tuple[int, ...]:
    # Deep levels hold most parameters: one channel there is the coarse step, channels at the top the fine ones.
    return _NUDGES if level < 3 or level == levels - 1 else (0,)
