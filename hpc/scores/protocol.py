"""Units and coordinates of score records."""

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from polarcast.hpc.scores.echo_change import CHANGES

Coordinates = tuple[float, ...] | tuple[str, ...]

RAIN_CLASSES_MM_H = (0.0, 10.0, 30.0, 50.0)
RAIN_THRESHOLDS_MM_H = (0.5, 1.0, 5.0, 10.0, 30.0, 50.0)
RAIN_EDGES_MM_H = tuple(float(e) for e in np.round(np.geomspace(0.1, 200, 24), 4))
ZH_CLASSES_DBZ = (0.0, 20.0, 30.0, 40.0)
ZH_THRESHOLDS_DBZ = (20.0, 30.0, 35.0, 40.0)
ZH_EDGES_DBZ = tuple(float(e) for e in np.arange(5.0, 66.0, 2.5))
WINDOWS = (1, 3, 5, 9, 17, 33, 65)
POOLS = (4, 16)
POOLINGS = ("average", "maximum")
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
DATA_RANGES = {"mm/h": 100.0, "dBZ": 70.0}
"""Range of the values by unit, as far as scores need one."""
_SINGLE, _BANDS = 16, 49
"""Number of single wavenumbers, and number of band bounds above them (six per octave)."""
MEAN, MEMBER = "mean", "member"


@dataclass(frozen=True)
class Protocol:
    """The coordinates of score records.

    Attributes:
        unit: Unit of forecast and observation.
        shape: Size of a field in pixels, (y, x).
        members: Ensemble size.
        lead_time: Minutes from the last input frame to each forecast frame; 0 for an estimate.
        height: Heights in km; 0 for rain at the ground.
        threshold: Event thresholds in `unit`; an event is a value at or above the threshold.
        classes: Lower limits of the observed value's classes in `unit`; the last class is open above.
        window: Side lengths of square windows in pixels, odd.
        pool: Side lengths of pooling blocks in pixels.
        edges: Bin edges of histograms in `unit`.
        quantile: Levels of the ensemble's quantiles.
        data_range: Range of the values in `unit` that SSIM relates its constants to; by default that of `DATA_RANGES`.
    """

    unit: str
    shape: tuple[int, int]
    members: int = 1
    lead_time: tuple[float, ...] = (0.0,)
    height: tuple[float, ...] = (0.0,)
    threshold: tuple[float, ...] = RAIN_THRESHOLDS_MM_H
    classes: tuple[float, ...] = RAIN_CLASSES_MM_H
    window: tuple[int, ...] = WINDOWS
    pool: tuple[int, ...] = POOLS
    edges: tuple[float, ...] = RAIN_EDGES_MM_H
    quantile: tuple[float, ...] = QUANTILES  # records of before these two fields lack the sums that depend on them
    data_range: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.data_range):
            object.__setattr__(self, "data_range", DATA_RANGES.get(self.unit, 1.0))
        for name in ("window", "pool"):
            fitting = tuple(side for side in getattr(self, name) if side <= min(self.shape))
            object.__setattr__(self, name, fitting)

    @property
    def pixels(self) -> int:
        """Number of pixels of one field."""
        return self.shape[0] * self.shape[1]

    @property
    def fields(self) -> tuple[str, ...]:
        """Forecast fields with spectra and histograms: the mean, and for an ensemble also one member."""
        return (MEAN,) if self.members == 1 else (MEAN, MEMBER)

    def axis(self, name: str) -> Coordinates:
        """Return the coordinates along an axis. Raises KeyError for an unknown axis."""
        if name in ("lead_time", "height", "threshold", "window", "pool", "quantile"):
            coordinates: tuple[float, ...] = getattr(self, name)
            return tuple(float(c) for c in coordinates)
        limit = min(self.shape) // 2 if self.shape[0] == self.shape[1] else 0
        derived: dict[str, Coordinates] = {
            "class": self.classes,
            "field": self.fields,
            "pooling": POOLINGS,
            "change": CHANGES if self.unit == "dBZ" else (),
            "wavenumber": _bands(limit),
            "bin": (float("-inf"), *self.edges),
            "observed_bin": (float("-inf"), *self.edges),
            "rank": tuple(float(k) for k in range(self.members + 1)),
            "probability": tuple(k / self.members for k in range(self.members + 1)),
        }
        return derived[name]

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serializable dict, the inverse of `of_record`."""
        return asdict(self)

    @classmethod
    def of_record(cls, content: dict[str, Any]) -> "Protocol":
        """Create a protocol from the dict of `as_record`. Raises TypeError for unknown keys."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**arguments)


@cache
def _bands(limit: int) -> tuple[float, ...]:
    """Return the first wavenumber of each band below a limit."""
    bands = {round(k) for k in (*range(_SINGLE), *np.geomspace(_SINGLE, 4096, _BANDS)) if round(k) < limit}
    return tuple(float(k) for k in sorted(bands))


def nowcast_protocol(
    shape: tuple[int, int], members: int, lead_time: tuple[float, ...], height: tuple[float, ...]
) -> Protocol:
    """Return the protocol of nowcasts of zh in dBZ.

    Args:
        shape: Size of a field in pixels, (y, x).
        members: Ensemble size.
        lead_time: Lead times in minutes.
        height: Heights in km.
    """
    return Protocol("dBZ", shape, members, lead_time, height, ZH_THRESHOLDS_DBZ, ZH_CLASSES_DBZ, edges=ZH_EDGES_DBZ)
