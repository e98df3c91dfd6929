"""How far off in space: the fractions skill score (Roberts & Lean 2008)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.hpc.scores.undefined import Array, quotient

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
    # On a CPU one field at a time: what is made of it stays in the processor's cache.
    together = len(forecast) if forecast.is_cuda else 1
    pairs = torch.stack([forecast, observed], 1).split(together)
    return torch.cat([torch.stack([_of_windows(pair >= t, windows) for t in thresholds], 1) for pair in pairs])


def fss(sums: Array) -> Array:
    """1 − Σ(F − O)² / Σ(F² + O²) of sums (…, PARTS); undefined where neither has an event."""
    difference, squares = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return 1 - quotient(difference, squares)


def _of_windows(events: Tensor, windows: Sequence[int]) -> Tensor:
    """Events (n, 2, y, x) of forecast and observation → (n, window, PARTS)."""
    margin = max(windows)
    table = _summed_area(events.float(), margin)
    return torch.stack([_parts(_within(table, w, margin, events.shape[-2:]), w) for w in windows], 1)


def _summed_area(events: Tensor, margin: int) -> Tensor:
    """Number of events above and left of each corner of the field and of a margin around it, where there are none.

    A window's number takes four of them (Crow 1984). Whole numbers, exact in float32 for fields below 4096².
    """
    inner = events.cumsum(-2).cumsum(-1)
    known = F.pad(inner, (margin + 1, 0, margin + 1, 0))
    return F.pad(known, (0, margin, 0, margin), mode="replicate")


def _within(table: Tensor, window: int, margin: int, shape: Sequence[int]) -> Tensor:
    """Number of events in the window around each pixel, (n, 2, y, x); even ones have one more before the middle."""
    low, high = margin - window // 2, margin + window - window // 2
    height, width = shape
    needed = table[..., low : high + width]
    rows = needed[..., high : high + height, :] - needed[..., low : low + height, :]
    return rows[..., window:] - rows[..., :width]


def _parts(counts: Tensor, window: int) -> Tensor:
    """Counts (n, 2, y, x) → (n, PARTS), summed by rows in float32 and over them in float64."""
    squares = torch.linalg.vecdot(counts, counts).double().sum((-2, -1))
    both = torch.linalg.vecdot(counts[:, 0], counts[:, 1]).double().sum(-1)
    return torch.stack([squares - 2 * both, squares], -1) / window**4
