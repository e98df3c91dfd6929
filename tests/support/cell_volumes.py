"""Dual-polarization volumes in ODIM HDF5 of a moving cell whose rain is known everywhere, and gauges below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

SITE = (60.9, 24.5, 150.0)
"""Latitude, longitude, and metres above the sea."""
Z_R = (200.0, 1.6)
_RAYS, _GATES, _GATE_M = 120, 72, 500.0
_ELEVATIONS = (0.5, 2.5, 6.0)
_LEAST_MM_H = 0.1
_CODING = {"DBZH": (0.01, -40.0), "ZDR": (0.001, -8.0), "KDP": (0.001, -2.0), "RHOHV": (0.0001, 0.0)}
"""Quantity → gain and offset; stored 0 is no echo, 65535 no data."""
_LIGHT_CM_PER_S = 29.979e9
_FREQUENCY_HZ = 5.6e9
Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MovingCell:
    """A round cell of rain that moves on a straight line.

    Attributes:
        start: Time at which it is at its first place, UTC.
        east_km, north_km: First place, from the radar.
        east_km_min, north_km_min: Velocity.
        peak_mm_h: Rain at its centre.
        radius_km: Distance at which rain is e^(−1/2) of that.
    """

    start: datetime
    east_km: float = -14.0
    north_km: float = 8.0
    east_km_min: float = 0.5
    north_km_min: float = -0.1
    peak_mm_h: float = 30.0
    radius_km: float = 5.0

    def rain(self, time: datetime, east_km: Real, north_km: Real) -> Real:
        """Return the rain in mm/h at a time and places."""
        minutes = (time - self.start).total_seconds() / 60
        x = east_km - self.east_km - self.east_km_min * minutes
        y = north_km - self.north_km - self.north_km_min * minutes
        return np.asarray(self.peak_mm_h * np.exp(-(x**2 + y**2) / (2 * self.radius_km**2)))


def write_cell_volume(path: Path, cell: MovingCell, time: datetime, station: str) -> Path:
    """Write the volume of a time; the cell is the same at all heights.

    Z follows from the rain by `Z_R`, KDP by R = 29.7 KDP^0.85, and ZDR rises with it.
    """
    import h5py

    date, clock = np.bytes_(f"{time:%Y%m%d}"), np.bytes_(f"{time:%H%M%S}")
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_2")
        what = {"object": np.bytes_("PVOL"), "date": date, "time": clock, "source": np.bytes_(f"NOD:{station}")}
        file.create_group("what").attrs.update(what)
        file.create_group("where").attrs.update(dict(zip(("lat", "lon", "height"), SITE, strict=True)))
        file.create_group("how").attrs["wavelength"] = _LIGHT_CM_PER_S / _FREQUENCY_HZ
        for number, elevation in enumerate(_ELEVATIONS, start=1):
            group = file.create_group(f"dataset{number}")
            rays = {"elangle": elevation, "nrays": _RAYS, "nbins": _GATES, "rscale": _GATE_M, "rstart": 0.0}
            group.create_group("where").attrs.update({**rays, "a1gate": 0})
            group.create_group("what").attrs.update({"startdate": date, "starttime": clock})
            for place, (name, values) in enumerate(_fields(cell, time, elevation).items(), start=1):
                gain, offset = _CODING[name]
                data = group.create_group(f"data{place}")
                coding = {"gain": gain, "offset": offset, "nodata": 65535.0, "undetect": 0.0}
                data.create_group("what").attrs.update({"quantity": np.bytes_(name), **coding})
                codes = np.where(np.isfinite(values), np.round((values - offset) / gain), 0).astype(np.uint16)
                data.create_dataset("data", data=codes, compression="gzip")
    return path


def _fields(cell: MovingCell, time: datetime, elevation: float) -> dict[str, Real]:
    """Return fields (a, r) by quantity; NaN where there is no echo."""
    angle = np.deg2rad((np.arange(_RAYS) + 0.5) * 360 / _RAYS)[:, None]
    km = (np.arange(_GATES) + 0.5)[None] * _GATE_M / 1000 * np.cos(np.deg2rad(elevation))
    rain = cell.rain(time, km * np.sin(angle), km * np.cos(angle))
    rain = np.where(rain >= _LEAST_MM_H, rain, np.nan)
    zh = 10 * np.log10(Z_R[0] * rain ** Z_R[1])
    return {
        "DBZH": zh,
        "ZDR": 0.2 + 0.04 * zh,
        "KDP": (rain / 29.7) ** (1 / 0.85),
        "RHOHV": np.where(rain > 0, 0.99, np.nan),
    }


def write_gauges(
    path: Path, cells: Sequence[MovingCell], places_km: Sequence[tuple[float, float]], minutes: int, intervals: int
) -> Path:
    """Write a table of what gauges below the cells would collect, each interval integrated in steps of 15 s.

    Args:
        path: File.
        cells: One cell for each day.
        places_km: East and north of each gauge, from the radar.
        minutes: Length of an interval.
        intervals: Number of intervals from the start of each cell.
    """
    lines = ["station,lat,lon,time,mm,minutes"]
    for number, (east, north) in enumerate(places_km):
        latitude, longitude = _position(east, north)
        for cell in cells:
            for interval in range(intervals):
                begin = cell.start + timedelta(minutes=minutes * interval)
                times = [begin + timedelta(seconds=15 * n + 7.5) for n in range(4 * minutes)]
                mm = sum(float(cell.rain(time, np.float64(east), np.float64(north))) for time in times) / 240  # type: ignore[arg-type]
                end = begin + timedelta(minutes=minutes)
                lines.append(f"G{number},{latitude:.6f},{longitude:.6f},{end:%Y-%m-%dT%H:%M:%S}Z,{mm:.4f},{minutes}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _position(east_km: float, north_km: float) -> tuple[float, float]:
    """Return latitude and longitude of a place, by pyproj."""
    import pyproj

    projection = pyproj.Proj(proj="aeqd", lat_0=SITE[0], lon_0=SITE[1], R=6370997.0)
    longitude, latitude = projection(1000 * east_km, 1000 * north_km, inverse=True)
    return float(latitude), float(longitude)
