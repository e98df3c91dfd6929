"""Categorical scores from counts of hits, misses, false alarms and correct negatives.

Counts of disjoint pixels are additive; the score of summed counts is the pooled score.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.hpc.scores.classes import classify, joint_counts, pool_classes
from polarcast.hpc.scores.ratios import Array, logarithm, quotient

COUNTS = ("hits", "misses", "false_alarms", "correct_negatives")


def contingency(forecast: Tensor, observed: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Count the contingency table of each field at each threshold.

    An event is a value at or above the threshold. Pixels that are NaN in either field are excluded.

    Args:
        forecast: Forecast fields, (n, y, x).
        observed: Observed fields in the same units, (n, y, x).
        thresholds: Event thresholds in the same units.

    Returns:
        Counts, (n, threshold, COUNTS) int64.
    """
    forecast, observed = (classify(field, sorted(thresholds)) for field in (forecast, observed))
    return _in_order(_tables(joint_counts(forecast, observed, len(thresholds) + 2)), thresholds)


def pooled_contingency(forecast: Tensor, observed: Tensor, thresholds: Sequence[float], pools: Sequence[int]) -> Tensor:
    """Count the contingency table after max-pooling both fields; near misses within a block are hits.

    Blocks do not overlap; smaller blocks cover the remaining pixels at the far edges. Pixels that are NaN, in both
    fields alike, do not enter a maximum; blocks of such pixels only are excluded.

    Args:
        forecast: Forecast fields, (n, y, x).
        observed: Observed fields in the same units, (n, y, x).
        thresholds: Event thresholds in the same units.
        pools: Side lengths of the blocks in pixels.

    Returns:
        Counts of blocks, (n, threshold, pool, COUNTS) int64.

    References:
        Gao et al. (2022), SEVIR benchmarks.
    """
    forecast, observed = (classify(field, sorted(thresholds)) for field in (forecast, observed))
    size = len(thresholds) + 2
    counts = [joint_counts(pool_classes(forecast, p), pool_classes(observed, p), size) for p in pools]
    return _in_order(_tables(torch.stack(counts, 1)).transpose(1, 2), thresholds)


def multi_event_contingency(
    forecast: Tensor, observed: Tensor, thresholds: Sequence[float], windows: Sequence[int]
) -> Tensor:
    """Count the multi-event contingency table of a neighborhood forecast against the observed pixels.

    A pixel counts as forecast if any pixel in the window around it is an event. There are no events beyond the edge and
    where the forecast is NaN.

    Args:
        forecast: Forecast fields, (n, y, x); NaN is not an event.
        observed: Observed fields in the same units, (n, y, x); NaN pixels are excluded.
        thresholds: Event thresholds in the same units.
        windows: Side lengths of the windows in pixels, odd.

    Returns:
        Counts, (n, threshold, window, COUNTS) int64.

    Raises:
        ValueError: a window is even, so that it has no center pixel.

    References:
        Atger (2001).
    """
    if any(w % 2 == 0 for w in windows):
        raise ValueError(f"windows must be odd to have a center pixel, got {list(windows)}")
    levels = sorted(thresholds)
    observed = classify(observed, levels)
    # NaN in the forecast is not an event: class 1, as for a value below all thresholds.
    widened, reached = classify(forecast, levels).clamp(min=1), 1
    counts = {}
    for window in sorted(set(windows)):
        # Maximum filters compose: windows of a and b pixels equal one window of a + b − 1 pixels.
        widened, reached = _max_filter(widened, window - reached + 1), window
        counts[window] = joint_counts(widened, observed, len(thresholds) + 2)
    return _in_order(_tables(torch.stack([counts[w] for w in windows], 1)).transpose(1, 2), thresholds)


def _tables(joint: Tensor) -> Tensor:
    """Return the contingency tables by ascending threshold, (…, threshold, COUNTS).

    `joint` (…, forecast class, observed class) counts the pixels of each pair of classes: 0 is NaN, and an event at a
    threshold is any class above it.
    """
    # reached[i, j]: pixels with a forecast class ≥ i and an observed class ≥ j.
    reached = joint[..., 1:, 1:].flip(-2, -1).cumsum(-2).cumsum(-1).flip(-2, -1)
    hits = reached.diagonal(dim1=-2, dim2=-1)[..., 1:]
    forecast_events, observed_events, pixels = reached[..., 1:, 0], reached[..., 0, 1:], reached[..., :1, 0]
    misses, false_alarms = observed_events - hits, forecast_events - hits
    return torch.stack([hits, misses, false_alarms, pixels - hits - misses - false_alarms], -1)


def _in_order(counts: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Reorder counts from ascending thresholds to the order of `thresholds`."""
    place = {t: i for i, t in enumerate(sorted(thresholds))}
    return counts[:, [place[t] for t in thresholds]]


def _max_filter(field: Tensor, window: int) -> Tensor:
    """Return the maximum in the window around each pixel, zero-padded, as two separable passes."""
    half = window // 2
    return _running_max(_running_max(F.pad(field, (half, half, half, half)), window, 1), window, 2)


def _running_max(field: Tensor, length: int, dim: int) -> Tensor:
    """Return the maximum of every `length` consecutive values, from overlapping maxima of 1, 2, 4, … values."""
    reach, count = 1, field.shape[dim] - length + 1
    while 2 * reach <= length:
        rest = field.shape[dim] - reach
        field, reach = torch.maximum(field.narrow(dim, 0, rest), field.narrow(dim, reach, rest)), 2 * reach
    return torch.maximum(field.narrow(dim, 0, count), field.narrow(dim, length - reach, count))


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
    # Events everywhere in both fields: 0 / 0, which rounding of the product may hide.
    return np.where(m + f + c == 0, np.nan, quotient(h - by_chance, h + m + f - by_chance))


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
"""Categorical scores by name, as functions of COUNTS; formulas as in Jolliffe & Stephenson (2012), ch. 3."""


def categorical(name: str, counts: Array) -> Array:
    """Compute a categorical score from counts.

    Args:
        name: Key of CATEGORICAL.
        counts: Counts of `contingency` or a variant of it, (…, COUNTS).

    Returns:
        Score, (…); NaN where undefined.
    """
    h, m, f, c = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return CATEGORICAL[name](h, m, f, c)
