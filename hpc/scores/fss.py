"""Fractions skill score (FSS).

References:
    Roberts & Lean (2008).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.hpc.scores.ratios import Array, quotient

_TOGETHER = 32
PARTS = ("sum_sq_difference", "sum_squares")


def fractions(forecast: Tensor, observed: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> Tensor:
    """Accumulate the terms of the FSS over the pixels of each field.

    The fraction of a pixel is the share of events in the window around it. An event is a value at or above the
    threshold. Beyond the edge there are no events.

    Args:
        forecast: Forecast fields, (n, y, x).
        observed: Observed fields in the same units, (n, y, x).
        thresholds: Event thresholds in the same units.
        windows: Side lengths of the windows in pixels.

    Returns:
        Σ(F − O)² and Σ(F² + O²), (n, threshold, window, PARTS) float64.
    """
    # One field and threshold at a time keeps intermediate results in a CPU's cache.
    pairs = torch.stack([forecast, observed], 1)
    return torch.stack([torch.stack([_of_windows(_reached(pair, t), windows) for t in thresholds]) for pair in pairs])


def fss(sums: Array) -> Array:
    """Compute the fractions skill score.

    FSS = 1 − Σ(F − O)² / Σ(F² + O²), with forecast fractions F and observed fractions O.

    Args:
        sums: Sums of `fractions`, (…, PARTS).

    Returns:
        FSS in [0, 1], (…); NaN if neither forecast nor observation has an event.

    References:
        Roberts & Lean (2008).
    """
    difference, squares = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return 1 - quotient(difference, squares)


def _reached(field: Tensor, threshold: float) -> Tensor:
    # On a CPU, NumPy vectorizes the comparison and torch does not.
    return field >= threshold if field.is_cuda else torch.from_numpy(field.numpy() >= threshold)


def _of_windows(events: Tensor, windows: Sequence[int]) -> Tensor:
    """Accumulate the terms for the events (2, y, x) of forecast and observation: (window, PARTS)."""
    margin, (height, width) = max(windows), events.shape[-2:]
    table = _summed_area(events, margin)
    # Buffers are reused: allocating them costs as much as filling them.
    rows, counts = table.new_empty(2, height, width + margin), table.new_empty(2, height, width)
    exact = counts.float()
    products = []
    for window in windows:
        _count_within(table, window, margin, rows[..., : width + window], counts)
        products.append(_products(exact.copy_(counts).view(2, math.gcd(height, _TOGETHER), -1)))
    squares, both = torch.stack(products).double().sum(-1).unbind(1)
    areas = torch.tensor(windows, dtype=torch.float64, device=events.device) ** 2
    return torch.stack([squares - 2 * both, squares], -1) / areas[:, None] ** 2


def _summed_area(events: Tensor, margin: int) -> Tensor:
    """Build the summed-area table of the events, padded by an event-free margin (Crow 1984).

    A window's count is a combination of four entries. In int16 the table may wrap around, but window counts that fit
    remain exact, in half the time.
    """
    dtype = torch.int16 if margin**2 < 2**15 else torch.int32
    inner = _column_sums(events.to(dtype).cumsum(-1, dtype=dtype))
    table = F.pad(inner, (margin + 1, margin, margin + 1, margin))
    table[..., -margin:] = table[..., -margin - 1, None]
    table[..., -margin:, :] = table[..., -margin - 1, None, :]
    return table


def _column_sums(counts: Tensor) -> Tensor:
    """Return the cumulative sums along the columns by doubling; torch.cumsum is slow in all but the last dimension."""
    reach, height = 1, counts.shape[-2]
    while reach < height:
        further = counts.clone()
        further[..., reach:, :] += counts[..., : height - reach, :]
        counts, reach = further, 2 * reach
    return counts


def _count_within(table: Tensor, window: int, margin: int, rows: Tensor, counts: Tensor) -> None:
    """Write the number of events in the window around each pixel to `counts` (2, y, x).

    `rows` (2, y, x + window) is a scratch buffer. Even windows have one more pixel before the center.
    """
    low, high = margin - window // 2, margin + window - window // 2
    height, width = counts.shape[-2:]
    needed = table[..., low : high + width]
    torch.sub(needed[..., high : high + height, :], needed[..., low : low + height, :], out=rows)
    torch.sub(rows[..., window:], rows[..., :width], out=counts)


def _products(counts: Tensor) -> Tensor:
    """Return partial sums of f² + o² and of f · o for counts (2, part, n): (2, 2 part), the latter zero-padded."""
    if counts.is_cuda:
        squares, both = torch.linalg.vecdot(counts, counts).flatten(), torch.linalg.vecdot(*counts)
        return torch.stack([squares, F.pad(both, (0, len(both)))])
    # NumPy dispatches the row products to BLAS, torch does not.
    rows = counts.numpy()
    sums = np.zeros((2, 2 * rows.shape[1]), np.float32)
    np.matmul(rows[:, :, None], rows[..., None], out=sums[0].reshape(*rows.shape[:2], 1, 1))
    np.matmul(rows[0, :, None], rows[1, ..., None], out=sums[1, : rows.shape[1]].reshape(-1, 1, 1))
    return torch.from_numpy(sums)
