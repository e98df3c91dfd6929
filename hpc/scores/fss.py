"""Fractions skill score (FSS).

References:
    Roberts & Lean (2008).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.hpc.scores.arrays import as_arrays, on_cpu, scored_type
from polarcast.hpc.scores.ratios import Array, quotient

PARTS = ("sum_sq_difference", "sum_squares")


def fractions(forecast: Tensor, observed: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> Tensor:
    """Accumulate the terms of the FSS over the pixels of each field.

    The fraction of a pixel is the share of events in the window around it. An event is a value at or above the
    threshold. Beyond the edge, and where a field is NaN, there are no events. Pixels with a NaN observation have no
    fraction: a region without observations acts like the outside of the field. (pysteps takes NaN for non-events, too,
    but adds up the fractions of such pixels.) Numbers of events are multiplied and added up as integers, divided last.

    Args:
        forecast: Forecast fields, (n, y, x).
        observed: Observed fields in the same units, (n, y, x).
        thresholds: Event thresholds in the same units.
        windows: Side lengths of the windows in pixels; even ones have one more pixel before the center.

    Returns:
        Σ(F − O)² and Σ(F² + O²), (n, threshold, window, PARTS) float64.
    """
    sums = _by_kernel if on_cpu(forecast, observed) else sums_on_device
    areas = torch.tensor(windows, dtype=torch.float64, device=forecast.device) ** 2
    return sums(forecast, observed, thresholds, windows) / areas[:, None] ** 2


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


def _by_kernel(forecast: Tensor, observed: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> Tensor:
    from polarcast.hpc.scores.fss_kernel import window_sums

    forecasts, observations = as_arrays(forecast, observed)
    return torch.from_numpy(window_sums(forecasts, observations, np.array(thresholds, forecasts.dtype), windows))


def sums_on_device(forecast: Tensor, observed: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> Tensor:
    """Sum (f − o)² and f² + o² of the numbers of events around each pixel, with torch on the device of the fields.

    Exact up to 2⁵³, as the compiled sums on a CPU. Arguments as for `fractions`.

    Returns:
        (n, threshold, window, 2) float64.
    """
    wanted, missing = scored_type(forecast, observed), observed.isnan()
    fields = torch.stack([forecast.to(wanted), observed.to(wanted)])
    return torch.stack([_of_events(fields >= threshold, missing, windows) for threshold in thresholds], 1)


def _of_events(events: Tensor, missing: Tensor, windows: Sequence[int]) -> Tensor:
    """Sum over the events (2, n, y, x) of forecast and observation, except at missing pixels: (n, window, 2)."""
    margin = max(windows)
    table = _summed_area(events, margin)
    sums = []
    for window in windows:
        counts = _count_within(table, window, margin, events.shape[-2:]).masked_fill_(missing, 0)
        forecast, observed = counts.double().flatten(2)
        both = torch.linalg.vecdot(forecast, observed)
        squares = torch.linalg.vecdot(forecast, forecast) + torch.linalg.vecdot(observed, observed)
        sums.append(torch.stack([squares - 2 * both, squares], -1))
    return torch.stack(sums, 1)


def _summed_area(events: Tensor, margin: int) -> Tensor:
    """Build the summed-area tables of the events, padded by an event-free margin (Crow 1984)."""
    inner = events.to(torch.int32).cumsum(-1, dtype=torch.int32).cumsum(-2, dtype=torch.int32)
    table = F.pad(inner, (margin + 1, margin, margin + 1, margin))
    table[..., -margin:] = table[..., -margin - 1, None]
    table[..., -margin:, :] = table[..., -margin - 1, None, :]
    return table


def _count_within(table: Tensor, window: int, margin: int, shape: torch.Size) -> Tensor:
    """Return the number of events in the window around each pixel, (…, y, x)."""
    low, high = margin - window // 2, margin + window - window // 2
    height, width = shape
    rows = table[..., high : high + height, :] - table[..., low : low + height, :]
    return rows[..., high : high + width] - rows[..., low : low + width]
