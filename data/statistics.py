"""Sums over frames that add up exactly: the train-only statistics of a manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Sums = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EventSums:
    """Sums over some frames; two of them add up to the sums over both.

    echo: (v, z, 3): count, sum and sum of squares where there is an echo (zh ≠ 0).
    extremes: (v, z, 2): least and greatest value where there is an echo.
    rain: (3,): pixels, wet pixels (> 0.1 mm/h), sum of rain rate in mm/h.
    """

    echo: Sums
    extremes: Sums
    rain: Sums

    @classmethod
    def empty(cls, variables: Sequence[str], heights_km: Sequence[float]) -> "EventSums":
        """The sums over no frame."""
        shape = (len(variables), len(heights_km))
        extremes = np.broadcast_to([np.inf, -np.inf], (*shape, 2)).copy()
        return cls(np.zeros((*shape, 3)), extremes, np.zeros(3))

    @classmethod
    def of(cls, radar: npt.NDArray[np.float32], rain: npt.NDArray[np.float32] | None) -> "EventSums":
        """Sums over one frame: radar (v, z, y, x), rain (y, x) in mm/h where there is any."""
        echo = radar[0] != 0
        moments = [[_field_sums(field[there]) for field, there in zip(level, echo, strict=True)] for level in radar]
        sums = np.array(moments, dtype=np.float64)
        wet = [0, 0, 0] if rain is None else [rain.size, (rain > 0.1).sum(), rain.sum(dtype=np.float64)]
        return cls(sums[..., :3], sums[..., 3:], np.array(wet, dtype=np.float64))

    def to_lists(self) -> list[Any]:
        """As plain numbers, exactly."""
        return [self.echo.tolist(), self.extremes.tolist(), self.rain.tolist()]

    @classmethod
    def from_lists(cls, lists: list[Any]) -> "EventSums":
        """The inverse of `to_lists`."""
        return cls(*(np.array(values, dtype=np.float64) for values in lists))

    def __add__(self, other: "EventSums") -> "EventSums":
        low = np.minimum(self.extremes[..., 0], other.extremes[..., 0])
        high = np.maximum(self.extremes[..., 1], other.extremes[..., 1])
        return EventSums(self.echo + other.echo, np.stack([low, high], -1), self.rain + other.rain)


def summarize(events: Sequence[EventSums], variables: Sequence[str], heights_km: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation and range of each variable where there is an echo, and of rain; empty without events."""
    if not events:
        return {}
    total = reduce(EventSums.__add__, events)
    radar = {
        f"{variable}_{height}km": _moments(total.echo[i, j], total.extremes[i, j])
        for i, variable in enumerate(variables)
        for j, height in enumerate(heights_km)
    }
    pixels, wet, rain = total.rain
    of_rain = {"rain_rate": {"mean": rain / pixels, "wet_fraction": wet / pixels}} if pixels else {}
    return {"events": len(events), **radar, **of_rain}


def _field_sums(echoes: npt.NDArray[np.float32]) -> tuple[float, ...]:
    """Count, sum, sum of squares, least and greatest of the echoes of one field."""
    if not echoes.size:
        return 0, 0, 0, np.inf, -np.inf
    values = echoes.astype(np.float64)
    return echoes.size, float(values.sum()), float(values @ values), float(values.min()), float(values.max())


def _moments(echo: Sums, extremes: Sums) -> dict[str, float | None]:
    count, first, second = echo
    if not count:
        return {"count": 0, "mean": None, "std": None, "min": None, "max": None}
    mean = first / count
    std = float(np.sqrt(max(second / count - mean**2, 0)))
    return {"count": int(count), "mean": mean, "std": std, "min": extremes[0], "max": extremes[1]}
