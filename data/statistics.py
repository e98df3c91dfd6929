"""Exact, mergeable sums over frames, and the training statistics of a manifest computed from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Sums = npt.NDArray[np.float64]
WET_MM_H = 0.1
_CODES = 2**16
_WITHOUT_SIGN = np.uint16(0x7FFF)
_VALUES = np.nan_to_num(np.arange(_CODES, dtype=np.uint16).view(np.float16).astype(np.float64), posinf=0, neginf=0)


@dataclass(frozen=True)
class EventSums:
    """Sums over a set of frames; adding two merges their frames.

    Attributes:
        echo: (v, z, 3): count, sum and sum of squares over pixels with echo (zh ≠ 0).
        extremes: (v, z, 2): minimum and maximum over pixels with echo.
        rain: (3,): observed pixels, wet pixels (> `WET_MM_H`), sum of rain rate in mm/h.
    """

    echo: Sums
    extremes: Sums
    rain: Sums

    def to_lists(self) -> list[Any]:
        """Convert to nested lists of plain numbers, without loss."""
        return [self.echo.tolist(), self.extremes.tolist(), self.rain.tolist()]

    @classmethod
    def from_lists(cls, lists: list[Any]) -> "EventSums":
        """Invert `to_lists`."""
        return cls(*(np.array(values, dtype=np.float64) for values in lists))

    def __add__(self, other: "EventSums") -> "EventSums":
        low = np.minimum(self.extremes[..., 0], other.extremes[..., 0])
        high = np.maximum(self.extremes[..., 1], other.extremes[..., 1])
        return EventSums(self.echo + other.echo, np.stack([low, high], -1), self.rain + other.rain)


def summarize(events: Sequence[EventSums], variables: Sequence[str], heights_km: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation and range of each variable in echo, and rain statistics; empty without events."""
    if not events:
        return {}
    total = reduce(EventSums.__add__, events)
    radar = {
        f"{variable}_{height}km": _moments(total.echo[i, j], total.extremes[i, j])
        for i, variable in enumerate(variables)
        for j, height in enumerate(heights_km)
    }
    pixels, wet, rain = total.rain
    rain_rate = {"rain_rate": {"mean": rain / pixels, "wet_fraction": wet / pixels}} if pixels else {}
    return {"events": len(events), **radar, **rain_rate}


class Tally:
    """Histogram of the half-precision values in each field over a set of frames.

    There are only 65536 such values, and counts add up exactly. The statistics are therefore bit-identical for any
    order of the frames.
    """

    def __init__(self, variables: int, heights: int) -> None:
        """Start with no frames."""
        self._echo = np.zeros((variables, heights, _CODES), np.int64)
        self._rain = np.zeros(_CODES, np.int64)

    def add(
        self,
        radar: npt.NDArray[np.float16],
        rain: npt.NDArray[np.float16] | None,
        observed: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Add one frame.

        Args:
            radar: (v, z, y, x), zh first.
            rain: (y, x) in mm/h, or None.
            observed: Pixels where rain was observed, (y, x); the others do not count. All by default.
        """
        codes = radar.view(np.uint16).reshape(*radar.shape[:2], -1)
        for level in range(radar.shape[1]):
            wet = np.flatnonzero((codes[0, level] & _WITHOUT_SIGN) != 0)
            for variable in range(radar.shape[0]):
                self._echo[variable, level] += np.bincount(codes[variable, level][wet], minlength=_CODES)
        if rain is not None:
            values = rain.view(np.uint16)
            counted = values.reshape(-1) if observed is None else values[observed]
            self._rain += np.bincount(counted, minlength=_CODES)

    def sums(self) -> EventSums:
        """Sums over all frames added."""
        echo = np.stack([self._echo.sum(-1), self._echo @ _VALUES, self._echo @ _VALUES**2], -1)
        extremes = [[_extremes(counts) for counts in levels] for levels in self._echo]
        rain = [self._rain.sum(), self._rain[_VALUES > WET_MM_H].sum(), self._rain @ _VALUES]
        return EventSums(echo.astype(np.float64), np.array(extremes), np.array(rain, dtype=np.float64))


def _extremes(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    values = _VALUES[counts > 0]
    return (float(values.min()), float(values.max())) if values.size else (np.inf, -np.inf)


def _moments(echo: Sums, extremes: Sums) -> dict[str, float | None]:
    count, first, second = echo
    if not count:
        return {"count": 0, "mean": None, "std": None, "min": None, "max": None}
    mean = first / count
    std = float(np.sqrt(max(second / count - mean**2, 0)))
    return {"count": int(count), "mean": mean, "std": std, "min": extremes[0], "max": extremes[1]}
