"""Pairs of gauges and estimates with known errors."""

import numpy as np
import numpy.typing as npt

from polarcast.hpc.evaluation.gauges.pairs import Pairs

Real = npt.NDArray[np.float64]


def pairs_with(gauge: Real, estimates: dict[str, Real], per_day: int, corner_km: Real | None = None) -> Pairs:
    """Return pairs of gauges with the same intervals, several a day.

    Args:
        gauge: Amounts, (stations, n) in mm.
        estimates: By estimator, (stations, n), or (seeds, stations, n).
        per_day: Intervals in each day; of 60 minutes.
        corner_km: Places of the stations north and east of a point, (stations, 2); on a line by default.
    """
    stations, n = gauge.shape
    corner = np.stack([np.arange(stations), np.zeros(stations)], -1) if corner_km is None else corner_km
    hours = np.arange(n) // per_day * 24 + np.arange(n) % per_day + 1
    ends = np.datetime64("2020-06-01T00:00:00") + hours * np.timedelta64(3600, "s")
    latitude = 57.0 + corner[:, 0] / 111.195
    longitude = 12.0 + corner[:, 1] / (111.195 * np.cos(np.deg2rad(latitude)))
    given = {name: (values if values.ndim == 3 else values[None]) for name, values in estimates.items()}
    return Pairs(
        stations=tuple(f"G{i:02d}" for i in range(stations)),
        station=np.repeat(np.arange(stations), n),
        ends=np.tile(ends, stations),
        minutes=60.0,
        gauge=gauge.ravel(),
        range_km=np.repeat(20.0 * np.arange(stations), n),
        estimates={name: np.repeat(v.reshape(len(v), 1, -1), 3, 1) for name, v in given.items()},
        places=np.stack([latitude, longitude], -1),
        left_out={},
    )
