"""How far off in space: the fractions skill score (Roberts & Lean 2008)."""

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
    """Sums over the pixels of each field, (n, threshold, window, PARTS) float64.

    The fraction of a pixel is the share of the window around it in which there is an event (a value of at least the
    threshold); beyond the edge there are none.

    Args:
        forecast: (n, y, x).
        observed: (n, y, x) in the same units.
        thresholds: In those units.
        windows: Sides of the windows, in pixels.
    """
    # One field and threshold at a time: what is made of it stays in a processor's cache.
    pairs = torch.stack([forecast, observed], 1)
    return torch.stack([torch.stack([_of_windows(_reached(pair, t), windows) for t in thresholds]) for pair in pairs])


def fss(sums: Array) -> Array:
    """1 − Σ(F − O)² / Σ(F² + O²) of sums (…, PARTS); undefined where neither has an event."""
    difference, squares = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return 1 - quotient(difference, squares)


def _reached(field: Tensor, threshold: float) -> Tensor:
    # NumPy compares a processor's vectors at once, torch value by value.
    return field >= threshold if field.is_cuda else torch.from_numpy(field.numpy() >= threshold)


def _of_windows(events: Tensor, windows: Sequence[int]) -> Tensor:
    """Events (2, y, x) of forecast and observation → (window, PARTS)."""
    margin, (height, width) = max(windows), events.shape[-2:]
    table = _summed_area(events, margin)
    # Room that is used again: asking for it anew costs as much as filling it.
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
    """Number of events above and left of each corner of the field and of a margin around it, where there are none.

    A window's number takes four of them (Crow 1984). In 16 bits the table may overflow, and wrap around: differences
    that fit come out right all the same, in half the time.
    """
    whole = torch.int16 if margin**2 < 2**15 else torch.int32
    inner = _accumulated(events.to(whole).cumsum(-1, dtype=whole))
    known = F.pad(inner, (margin + 1, margin, margin + 1, margin))
    known[..., -margin:] = known[..., -margin - 1, None]
    known[..., -margin:, :] = known[..., -margin - 1, None, :]
    return known


def _accumulated(counts: Tensor) -> Tensor:
    """Sums down the columns, by doubling: along a dimension that isn't the last, cumsum is slow."""
    reach, height = 1, counts.shape[-2]
    while reach < height:
        further = counts.clone()
        further[..., reach:, :] += counts[..., : height - reach, :]
        counts, reach = further, 2 * reach
    return counts


def _count_within(table: Tensor, window: int, margin: int, rows: Tensor, counts: Tensor) -> None:
    """Put the number of events in the window around each pixel into counts (2, y, x).

    By way of rows (2, y, x + window); even windows have one more pixel before the middle.
    """
    low, high = margin - window // 2, margin + window - window // 2
    height, width = counts.shape[-2:]
    needed = table[..., low : high + width]
    torch.sub(needed[..., high : high + height, :], needed[..., low : low + height, :], out=rows)
    torch.sub(rows[..., window:], rows[..., :width], out=counts)


def _products(counts: Tensor) -> Tensor:
    """Parts of Σ f² + o² and of Σ f · o of counts (2, part, n): (2, 2 part), zeros behind the latter."""
    if counts.is_cuda:
        squares, both = torch.linalg.vecdot(counts, counts).flatten(), torch.linalg.vecdot(*counts)
        return torch.stack([squares, F.pad(both, (0, len(both)))])
    # NumPy hands rows to BLAS, which torch does not.
    rows = counts.numpy()
    found = np.zeros((2, 2 * rows.shape[1]), np.float32)
    np.matmul(rows[:, :, None], rows[..., None], out=found[0].reshape(*rows.shape[:2], 1, 1))
    np.matmul(rows[0, :, None], rows[1, ..., None], out=found[1, : rows.shape[1]].reshape(-1, 1, 1))
    return torch.from_numpy(found)
