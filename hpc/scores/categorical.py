"""Yes or no: counts of hits, misses, false alarms and correct negatives, and what is made of them.

Counts of disjoint pixels add up; a score of the sum is the score of all of them together (pooled).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.hpc.scores.ratios import Array, logarithm, quotient

_BYTE = 256
COUNTS = ("hits", "misses", "false_alarms", "correct_negatives")


def contingency(forecast: Tensor, observed: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Counts of each field at each threshold, (n, threshold, COUNTS) int64; an event is a value of at least that much.

    Args:
        forecast: (n, y, x).
        observed: (n, y, x) in the same units; pixels without a value (NaN) in either do not count.
        thresholds: In those units.
    """
    said, seen = (_classes(field, thresholds) for field in (forecast, observed))
    return _in_order(_counts(said, seen, len(thresholds)), thresholds)


def pooled_contingency(forecast: Tensor, observed: Tensor, thresholds: Sequence[float], pools: Sequence[int]) -> Tensor:
    """Counts after both fields were max-pooled, (n, threshold, pool, COUNTS): near misses within a block are hits.

    Blocks of `pool`² pixels side by side, as SEVIR's benchmarks have them (Gao et al. 2022); what is left over at the
    far edges is a block of its own.
    """
    said, seen = (_classes(field, thresholds) for field in (forecast, observed))
    found = [_counts(_blocks(said, p), _blocks(seen, p), len(thresholds)) for p in pools]
    return _in_order(torch.stack(found, 2), thresholds)


def multi_event_contingency(
    forecast: Tensor, observed: Tensor, thresholds: Sequence[float], windows: Sequence[int]
) -> Tensor:
    """Counts of a fuzzy forecast against an observation that is not, (n, threshold, window, COUNTS).

    A pixel is forecast where there is an event anywhere in the window around it (Atger 2001: multi-event contingency
    tables in space); the window reaches over the edge of the field, where there is nothing.

    Args:
        forecast: (n, y, x); a pixel without a value (NaN) is no event.
        observed: (n, y, x); NaN does not count.
        thresholds: Of events.
        windows: Odd sides of the windows, in pixels.

    Raises:
        ValueError: a window is even, so that it has no middle.
    """
    if any(w % 2 == 0 for w in windows):
        raise ValueError(f"windows must be odd to have a middle pixel, got {list(windows)}")
    seen = _classes(observed, thresholds)
    # No value in the forecast is no event: class 1, as of a value below all thresholds.
    widened, reached = _classes(forecast, thresholds).clamp(min=1), 1
    found = {}
    for window in sorted(set(windows)):
        # The highest within a window, taken within a small one around it, is the highest within both together.
        widened, reached = _highest_within(widened, window - reached + 1), window
        found[window] = _counts(widened, seen, len(thresholds))
    return _in_order(torch.stack([found[w] for w in windows], 2), thresholds)


def _classes(field: Tensor, thresholds: Sequence[float]) -> Tensor:
    """One more than the number of thresholds a value reaches, uint8; 0 without a value.

    The class of the highest value is the highest class: fields can be widened and pooled as classes, once for all
    thresholds.
    """
    levels = torch.tensor(sorted(thresholds), dtype=field.dtype, device=field.device)
    reached = torch.bucketize(field.contiguous(), levels, right=True, out_int32=True).to(torch.uint8) + 1
    return torch.where(field.isnan(), torch.zeros_like(reached), reached)


def _counts(said: Tensor, seen: Tensor, thresholds: int) -> Tensor:
    """Classes (n, y, x) of forecast and observation → (n, threshold, COUNTS), by ascending threshold.

    Pixels are counted by pairs of classes; an event at a threshold is a class above it.
    """
    size = thresholds + 2
    # In bytes as long as they hold a pair: an eighth of the memory that would have to be gone through.
    wide = said if size * size <= _BYTE else said.int()
    pairs = (size * wide + seen).flatten(1)
    counted = torch.stack([torch.bincount(of_field, minlength=size * size) for of_field in pairs])
    joint = counted.view(-1, size, size)[:, 1:, 1:]
    # Pixels whose classes are at least (i, j): summed up from the end.
    reached = joint.flip(1, 2).cumsum(1).cumsum(2).flip(1, 2)
    hits = reached.diagonal(dim1=1, dim2=2)[:, 1:]
    said_events, seen_events, whole = reached[:, 1:, 0], reached[:, 0, 1:], reached[:, :1, 0]
    misses, false_alarms = seen_events - hits, said_events - hits
    return torch.stack([hits, misses, false_alarms, whole - hits - misses - false_alarms], -1)


def _in_order(found: Tensor, thresholds: Sequence[float]) -> Tensor:
    """From ascending thresholds to the order they were given in."""
    place = {t: i for i, t in enumerate(sorted(thresholds))}
    return found[:, [place[t] for t in thresholds]]


def _highest_within(field: Tensor, window: int) -> Tensor:
    """Highest value in the window around each pixel, by rows, then by columns; nothing beyond the edge."""
    half = window // 2
    return _highest_of(_highest_of(F.pad(field, (half, half, half, half)), window, 1), window, 2)


def _highest_of(field: Tensor, length: int, dim: int) -> Tensor:
    """Highest of every `length` values in a row, by doubling: of 1, 2, 4, … values, and of two such that overlap."""
    reach, count = 1, field.shape[dim] - length + 1
    while 2 * reach <= length:
        rest = field.shape[dim] - reach
        field, reach = torch.maximum(field.narrow(dim, 0, rest), field.narrow(dim, reach, rest)), 2 * reach
    return torch.maximum(field.narrow(dim, 0, count), field.narrow(dim, length - reach, count))


def _blocks(classes: Tensor, pool: int) -> Tensor:
    return F.max_pool2d(classes[:, None].float(), pool, ceil_mode=True)[:, 0].to(torch.uint8)


def _csi(h: Array, m: Array, f: Array, c: Array) -> Array:
    return quotient(h, h + m + f)


def _pod(h: Array, m: Array, f: Array, c: Array) -> Array:
    return quotient(h, h + m)


def _far(h: Array, m: Array, f: Array, c: Array) -> Array:
    return quotient(f, h + f)


def _pofd(h: Array, m: Array, f: Array, c: Array) -> Array:
    return quotient(f, f + c)


def _hk(h: Array, m: Array, f: Array, c: Array) -> Array:
    return _pod(h, m, f, c) - _pofd(h, m, f, c)


def _bias(h: Array, m: Array, f: Array, c: Array) -> Array:
    return quotient(h + f, h + m)


def _hss(h: Array, m: Array, f: Array, c: Array) -> Array:
    return quotient(2 * (h * c - f * m), (h + m) * (m + c) + (h + f) * (f + c))


def _ets(h: Array, m: Array, f: Array, c: Array) -> Array:
    by_chance = quotient((h + m) * (h + f), h + m + f + c)
    return quotient(h - by_chance, h + m + f - by_chance)


def _sedi(h: Array, m: Array, f: Array, c: Array) -> Array:
    hit, false = _pod(h, m, f, c), _pofd(h, m, f, c)
    a, b, d, e = (logarithm(x) for x in (false, hit, 1 - false, 1 - hit))
    return quotient(a - b - d + e, a + b + d + e)


CATEGORICAL: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "csi": _csi,  # critical success index, threat score (Schaefer 1990)
    "pod": _pod,  # probability of detection, hit rate
    "far": _far,  # false alarm ratio
    "pofd": _pofd,  # probability of false detection, false alarm rate
    "hk": _hk,  # Hanssen–Kuipers discriminant, Peirce skill score
    "hss": _hss,  # Heidke skill score
    "ets": _ets,  # equitable threat score, Gilbert skill score
    "bias": _bias,  # frequency bias
    "sedi": _sedi,  # symmetric extremal dependence index (Ferro & Stephenson 2011)
}
"""Formulas as in Jolliffe & Stephenson (2012), ch. 3."""


def categorical(name: str, counts: Array) -> Array:
    """A score of counts (…, COUNTS) → (…); NaN where it is undefined."""
    h, m, f, c = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return CATEGORICAL[name](h, m, f, c)
