"""An archive of a radar with times and place, whose rain is known everywhere, and gauges for it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.gauges.gauge import Gauge
from polarcast.data.gauges.places import GridPlace
from polarcast.data.notes import write_archive_note

SITE = (57.7, 12.0)
STEP_MINUTES = 6.0
Real = npt.NDArray[np.float64]


def place(size: int = 32) -> GridPlace:
    """Return where the archive's grid lies."""
    return GridPlace((size, size), 1.0, site=SITE)


def frame_times(day: int, frames: int) -> npt.NDArray[np.datetime64]:
    """Return the times of an event: every 6 minutes from 12:06 of a day in June 2020."""
    first = np.datetime64("2020-06-01T12:06:00") + np.timedelta64(day, "D")
    return first + np.arange(frames) * np.timedelta64(6, "m")


def moving_rain(frames: int, size: int, seed: int) -> Real:
    """Return rain of two moving cells on a slope, (t, y, x) in mm/h, always positive."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    out = np.full((frames, size, size), 0.3) + 0.5 * x / size
    for _ in range(2):
        y0, x0, vy, vx = rng.uniform(0, size), rng.uniform(0, size), *rng.uniform(-1, 1, 2)
        for t in range(frames):
            out[t] += 12 * np.exp(-((y - y0 - vy * t) ** 2 + (x - x0 - vx * t) ** 2) / (size / 3) ** 2)
    return out


def write_gauge_archive(
    root: Path,
    rains: Sequence[Real],
    *,
    factor: float = 1.0,
    masks: Sequence[npt.NDArray[np.bool_] | None] = (),
    variables: Sequence[str] = ("zh", "zdr", "kdp"),
    has_rain: bool = True,
) -> Archive:
    """Write an archive of one event a day.

    Args:
        root: Folder.
        rains: True rain of each day, (t, y, x) in mm/h.
        factor: What the archive's own rain is multiplied by.
        masks: Observed pixels at 1 km and on the ground of each day, (t or 1, 2, y, x).
        variables: Variables; zh follows from the rain by Z = 200 R^1.6, KDP from it by the C-band relation.
        has_rain: Whether the archive has rain.
    """
    write_archive_note(root, {"generator": "tests", "time_step_min": STEP_MINUTES, "spacing_km": 1.0, "rain": "known"})
    for day, rain in enumerate(rains):
        fields = {
            "zh": 10 * np.log10(200 * rain**1.6),
            "zdr": np.full(rain.shape, 0.5),
            "kdp": (rain / 29.7) ** (1 / 0.85),
        }
        radar = np.stack([fields[name] for name in variables], 1)[:, :, None].astype(np.float32)
        note = {
            "times": [str(t) for t in frame_times(day, len(rain))],
            "site": {"latitude": SITE[0], "longitude": SITE[1], "altitude_m": 100.0},
            "band": "C",
            "rain": "known rain of a test",
        }
        mask = masks[day] if day < len(masks) else None
        own = (factor * rain).astype(np.float32) if has_rain else None
        write_event(root, day, radar, own, variables=variables, heights_km=(1.0,), note=note, observed=mask)
    return open_archive(root)


def place_of_pixel(row: float, column: float, size: int = 32) -> tuple[float, float]:
    """Return latitude and longitude of a position on the grid, by pyproj."""
    import pyproj

    projection = pyproj.Proj(proj="aeqd", lat_0=SITE[0], lon_0=SITE[1], R=6370997.0)
    east, north = 1000 * (column - size // 2), 1000 * (size // 2 - row)
    longitude, latitude = projection(east, north, inverse=True)
    return float(latitude), float(longitude)


def gauge_at(
    station: str, row: float, column: float, ends: object, minutes: float, mm: object, size: int = 32
) -> Gauge:
    """Return a gauge at a position on the grid."""
    latitude, longitude = place_of_pixel(row, column, size)
    times = np.asarray(ends, "datetime64[s]")
    return Gauge.of(station, latitude, longitude, times, np.full(len(times), minutes), np.asarray(mm, np.float64))


def write_table(path: Path, gauges: Sequence[Gauge]) -> Path:
    """Write gauges as a table with times in UTC."""
    lines = ["station,lat,lon,time,mm,minutes"]
    for g in gauges:
        for end, mm, minutes in zip(g.ends, g.mm, g.minutes, strict=True):
            amount = "" if np.isnan(mm) else f"{mm:.4f}"
            lines.append(f"{g.station},{g.latitude:.7f},{g.longitude:.7f},{end}Z,{amount},{minutes:g}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
