"""Compiled loops of the fractions skill score on a CPU; import this only to compute it, because numba is slow to load.

Products of counts are added up as integers, so a sum is exact up to 2⁵³ and rounded to float64 above.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.hpc.scores.compiled import inlined, kernel

_SHORTEST = 32
"""Pixels whose squared counts must fit into an int32 together; with fewer, int64 sums are faster."""
_CAPACITY: dict[Any, int] = {np.int32: 2**31 - 1, np.int64: 2**61}
"""Largest sum of squares of each type; combinations of three sums are int64."""


def window_sums(
    forecast: npt.NDArray[Any], observed: npt.NDArray[Any], thresholds: npt.NDArray[Any], windows: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Sum (f − o)² and f² + o² over the pixels of each field, with the numbers of events in the window around a pixel.

    Pixels with a NaN observation are left out as centers of windows.

    Args:
        forecast: Forecast fields, (n, y, x) float32 or float64.
        observed: Observed fields of the same type, (n, y, x).
        thresholds: Event thresholds of the same type; an event is a value at or above the threshold.
        windows: Side lengths of the windows in pixels; even ones have one more pixel before the center.

    Returns:
        (n, threshold, window, 2) float64.
    """
    n, height, width = forecast.shape
    margin = max(windows)
    short = _run_length(np.int32, margin, height, width) >= _SHORTEST
    # int16 tables may wrap around, but counts that fit remain exact, with half the memory traffic.
    count, total = (np.int16, np.int32) if short else (np.int32, np.int64)
    lengths = np.array([_run_length(total, window, height, width) for window in windows])
    tables = np.empty((2, height + margin, width + margin), count)
    out = np.empty((n, len(thresholds), len(windows), 2))
    _window_sums(forecast, observed, thresholds, np.array(windows), lengths, margin // 2, tables, count, total, out)
    return out


def _run_length(total: type, window: int, height: int, width: int) -> int:
    """Return the number of pixels, at most a row, whose squared counts an integer type can add up."""
    largest = min(window, height) * min(window, width)
    return min(width, _CAPACITY[total] // largest**2)


@inlined
def _fill(table: Any, field: Any, threshold: Any, low: int) -> None:
    """Write the summed-area table of the events (Crow 1984), with `low` + 1 rows and columns of 0 before the first."""
    height, width = field.shape
    table[: low + 1] = 0
    for y in range(height):
        row, above, values = table[low + 1 + y], table[low + y], field[y]
        for x in range(low + 1):
            row[x] = 0
        run = 0
        for x in range(width):
            run += values[x] >= threshold
            row[low + 1 + x] = run
        for x in range(low + 1 + width, len(row)):
            row[x] = run
        for x in range(len(row)):
            row[x] += above[x]
    for y in range(low + 1 + height, len(table)):
        table[y] = table[low + height]


@inlined
def _run_sums(tables: Any, top: int, left: int, window: int, length: int, count: Any, total: Any) -> tuple[Any, Any]:
    """Sum over `length` pixels of a row, whose first window begins at (top, left) of the tables."""
    f0, f1 = tables[0, top, left:], tables[0, top + window, left:]
    o0, o1 = tables[1, top, left:], tables[1, top + window, left:]
    # Slices of equal length without an offset are what the compiler vectorizes.
    fa, fb, fc, fd = f0[:length], f0[window : window + length], f1[:length], f1[window : window + length]
    oa, ob, oc, od = o0[:length], o0[window : window + length], o1[:length], o1[window : window + length]
    ff, oo, fo = total(0), total(0), total(0)
    for x in range(length):
        f, o = total(count((fd[x] - fc[x]) - (fb[x] - fa[x]))), total(count((od[x] - oc[x]) - (ob[x] - oa[x])))
        ff, oo, fo = total(ff + total(f * f)), total(oo + total(o * o)), total(fo + total(f * o))
    squares = np.int64(ff) + np.int64(oo)
    return squares - 2 * np.int64(fo), squares


@inlined
def _count_missing(field: Any) -> int:
    missing = 0
    for y in range(field.shape[0]):
        values = field[y]
        for x in range(len(values)):
            missing += values[x] != values[x]
    return missing


@inlined
def _until_missing(values: Any, start: int, end: int) -> int:
    """Return the position of the first NaN from `start` on, or `end` if there is none before it."""
    for x in range(start, end):
        if values[x] != values[x]:
            return x
    return end


@kernel
def _window_sums(
    forecast: Any, observed: Any, thresholds: Any, windows: Any, lengths: Any, low: int, tables: Any, count: Any,
    total: Any, out: Any,
) -> None:  # fmt: skip
    height, width = forecast.shape[1:]
    for i in range(len(forecast)):
        missing = _count_missing(observed[i])
        for k in range(len(thresholds)):
            _fill(tables[0], forecast[i], thresholds[k], low)
            _fill(tables[1], observed[i], thresholds[k], low)
            for j in range(len(windows)):
                window, length = windows[j], lengths[j]
                difference, squares = 0.0, 0.0
                for y in range(height):
                    x = 0
                    while x < width:
                        stop = min(x + length, width)
                        end = _until_missing(observed[i, y], x, stop) if missing else stop
                        top, left = y + low - window // 2, x + low - window // 2
                        part = _run_sums(tables, top, left, window, end - x, count, total)
                        difference += part[0]
                        squares += part[1]
                        x = end + (end < stop)  # behind the missing pixel
                out[i, k, j, 0] = difference
                out[i, k, j, 1] = squares
