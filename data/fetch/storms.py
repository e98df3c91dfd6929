"""Find the wettest windows of a season, first by the size of the objects, then by a look at one volume of each.

Volumes are compressed, so that echo makes them larger. Clear-air scans are smaller, too. Sizes are compared within a
variant of file, as gzipped files have other sizes. Clutter, insects and ducting also make large volumes; the look at
the reflectivity of the lowest sweep tells them from rain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.fetch.networks import Period, RemoteFile
from polarcast.data.ingest.formats import read_raw
from polarcast.data.ingest.volumes.readers.raw import RawSweep, RawVolume
from polarcast.data.ingest.volumes.volume import find_names
from polarcast.data.workers import failures_as_bad_input

LEAST_DBZ = 35.0
_LEAST_RHOHV = 0.9
_RANGE_KM = (10.0, 150.0)
_MOST_GAP = timedelta(minutes=15)
"""Longest gap within a window, as within an event of `data ingest`."""
_APART = timedelta(days=1)
"""Least time between the starts of windows: closer ones may show one storm, and would be one group of a split."""
_LOOKS_PER_STORM = 3
_SAME_ELEVATION_DEG = 0.2


@dataclass(frozen=True)
class StormWindow:
    """A window of some hours.

    Attributes:
        period: The hours.
        files: Its volumes.
        size_ratio: Mean size of the volumes by the season's median of their variant.
        share: Share of the area within 10 to 150 km with 35 dBZ or more in one volume; None before the look.
        problem: Why there is no share, if the volume can't be read.
        is_chosen: Whether it is one of the wettest.
    """

    period: Period
    files: tuple[RemoteFile, ...]
    size_ratio: float
    share: float | None = None
    problem: str = ""
    is_chosen: bool = False

    @property
    def sample(self) -> RemoteFile:
        """The volume that is looked at: the one in the middle."""
        middle = self.period.start + (self.period.end - self.period.start) / 2
        return min(self.files, key=lambda file: (abs(file.time - middle), file.key))

    def as_record(self) -> dict[str, Any]:
        """Return the record for `storms.json` and `--json`."""
        return {
            "start": f"{self.period.start:%Y-%m-%dT%H:%M}Z", "end": f"{self.period.end:%Y-%m-%dT%H:%M}Z",
            "volumes": len(self.files), "bytes": sum(file.size for file in self.files),
            "size_ratio": round(self.size_ratio, 3), "share_35_dbz": self.share, "problem": self.problem,
            "sample": self.sample.key, "etag": self.sample.etag, "chosen": self.is_chosen,
        }  # fmt: skip


def candidate_windows(files: Sequence[RemoteFile], period: Period, hours: int, storms: int) -> list[StormWindow]:
    """Return the windows with the largest volumes, a day or more apart, three times as many as storms are wanted.

    Windows start at full hours, and have no gap above 15 minutes.

    Raises:
        BadInput: No window has volumes without gaps.
    """
    usual = {variant: median(f.size for f in files if f.variant == variant) for variant in {f.variant for f in files}}
    ratios = np.array([file.size / max(usual[file.variant], 1) for file in files])
    times = [file.time for file in files]
    length, found = timedelta(hours=hours), []
    start, first = _next_hour(period.start), 0
    while start + length <= period.end:
        while first < len(times) and times[first] < start:
            first += 1
        last = first
        while last < len(times) and times[last] < start + length:
            last += 1
        window = Period(start, start + length)
        if _is_covered(times[first:last], window):
            found.append(StormWindow(window, tuple(files[first:last]), float(ratios[first:last].mean())))
        start += timedelta(hours=1)
    if not found:
        what = f"no {hours} hours of the period have volumes without gaps of {_MOST_GAP.seconds // 60} minutes"
        raise BadInput(what, "--storms", "give a longer period, or fewer --hours")
    return _apart(sorted(found, key=lambda w: (-w.size_ratio, w.period.start)), _LOOKS_PER_STORM * storms)


def wettest(windows: Sequence[StormWindow], storms: int) -> list[StormWindow]:
    """Return all windows, ranked by the share of strong echo, then by size; the first ones are chosen."""
    ranked = sorted(windows, key=lambda w: (-1.0 if w.share is None else w.share, w.size_ratio), reverse=True)
    return [replace(window, is_chosen=n < storms) for n, window in enumerate(ranked)]


def look_at(path: Path) -> float:
    """Return the share of a volume's area with strong echo. Raises BadInput if it can't be read."""
    with failures_as_bad_input("can't be looked at"):
        return strong_share(read_raw(path))


def strong_share(volume: RawVolume) -> float:
    """Return the share of the area within 10 to 150 km with 35 dBZ or more in the lowest sweep.

    Gates with RhoHV below 0.9, where the sweep has it, are not rain, and do not count as strong.

    Raises:
        BadInput: No sweep has reflectivity.
    """
    sweeps = [(sweep, find_names(list(sweep.moments))) for sweep in volume.sweeps if sweep.is_ppi and not sweep.flaw]
    sweeps = [(sweep, names) for sweep, names in sweeps if "zh" in names]
    if not sweeps:
        raise BadInput("no sweep with reflectivity")
    lowest = min(sweep.elevation for sweep, _ in sweeps) + _SAME_ELEVATION_DEG
    low = [(sweep, names) for sweep, names in sweeps if sweep.elevation <= lowest]
    sweep, names = next((one for one in low if "rhohv" in one[1]), low[0])
    return _share_of(sweep, names)


def _share_of(sweep: RawSweep, names: dict[str, str]) -> float:
    strong = np.nan_to_num(sweep.moments[names["zh"]].values, nan=-np.inf) >= LEAST_DBZ
    if "rhohv" in names:
        strong &= ~(sweep.moments[names["rhohv"]].values < _LEAST_RHOHV)
    km = sweep.range_m / 1000
    weight = np.where((km >= _RANGE_KM[0]) & (km <= _RANGE_KM[1]), km, 0.0)
    total = float(weight.sum() * len(strong))
    return float((strong * weight).sum() / total) if total else 0.0


def _next_hour(time: datetime) -> datetime:
    hour = time.replace(minute=0, second=0, microsecond=0)
    return hour if hour == time else hour + timedelta(hours=1)


def _is_covered(times: Sequence[datetime], window: Period) -> bool:
    stops = [window.start, *times, window.end]
    return bool(times) and all(b - a <= _MOST_GAP for a, b in pairwise(stops))


def _apart(windows: Sequence[StormWindow], most: int) -> list[StormWindow]:
    """Return the first windows that start a day or more from each other, and do not overlap."""
    chosen: list[StormWindow] = []
    for window in windows:
        least = max(_APART, window.period.end - window.period.start)
        if all(abs(window.period.start - other.period.start) >= least for other in chosen):
            chosen.append(window)
        if len(chosen) == most:
            break
    return chosen
