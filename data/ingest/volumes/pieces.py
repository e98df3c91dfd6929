"""Join volumes that networks deliver in pieces: a sweep or a moment in each file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from polarcast.data.ingest.volumes.readers.raw import RawSweep, RawVolume
from polarcast.data.ingest.volumes.site import is_same_radar
from polarcast.data.ingest.volumes.volume import RadarSite

LONGEST_VOLUME_MINUTES = 12.0
LONGEST_PAUSE_MINUTES = 5.0
"""Pieces with a longer pause between them are of two volumes."""
SAME_ANGLE_DEG = 0.15
"""Sweeps of one volume with fields in several files have elevations that differ by less."""


@dataclass(frozen=True)
class SweepHeader:
    """What a sweep contains.

    Attributes:
        elevation_deg: Median of the rays.
        mode: Scan mode.
        rays, gates: Its size.
        gate_m: Spacing of the gates.
        start: Time of its first ray, UTC.
        moments: Units by name in the file, of the fields with values.
        flaw: Why the file says that it must not be used.
    """

    elevation_deg: float
    mode: str
    rays: int
    gates: int
    gate_m: float
    start: np.datetime64
    moments: dict[str, str]
    flaw: str = ""


@dataclass(frozen=True)
class Header:
    """What a file of sweeps contains."""

    kind: str
    site: RadarSite
    band: str | None
    sweeps: tuple[SweepHeader, ...]

    @classmethod
    def of(cls, raw: RawVolume) -> "Header":
        """Return the header of sweeps that were read."""
        return cls(raw.kind, raw.site, raw.band, tuple(map(_header_of, raw.sweeps)))

    @property
    def start(self) -> np.datetime64:
        """Time of the first sweep; NaT if no sweep has one."""
        known = [sweep.start for sweep in self.sweeps if not np.isnat(sweep.start)]
        return min(known, default=np.datetime64("NaT", "s"))

    @property
    def parts(self) -> list[tuple[float, str]]:
        """Elevation and name of each field of each sweep."""
        return [(sweep.elevation_deg, name) for sweep in self.sweeps for name in sweep.moments]


def _header_of(sweep: RawSweep) -> SweepHeader:
    known = sweep.time[~np.isnat(sweep.time)]
    middle = np.sort(known)[len(known) // 2] if len(known) else np.datetime64("NaT", "s")
    near = known[np.abs(known - middle) <= np.timedelta64(1, "h")]
    steps = np.diff(sweep.range_m)
    return SweepHeader(
        elevation_deg=round(sweep.elevation, 2),
        mode=sweep.mode,
        rays=len(sweep.azimuth_deg),
        gates=len(sweep.range_m),
        gate_m=float(steps.mean()) if len(steps) else 0.0,
        start=near.min().astype("datetime64[s]") if len(near) else middle,
        moments={name: moment.units for name, moment in sweep.moments.items()},
        flaw=sweep.flaw,
    )


def grouped(headers: Sequence[Header]) -> list[list[int]]:
    """Return the positions of the files that form each volume, in the order of their times.

    Files of one radar are joined while they add sweeps or fields. A field that is there at its elevation already, a
    pause, or too long a time starts the next volume; so does every file that holds a volume.
    """
    radars: list[list[int]] = []
    for i in range(len(headers)):
        same = next((radar for radar in radars if is_same_radar(headers[radar[0]].site, headers[i].site)), None)
        radars.append([i]) if same is None else same.append(i)
    return [group for radar in radars for group in _in_time(radar, headers)]


def _in_time(radar: Sequence[int], headers: Sequence[Header]) -> Iterator[list[int]]:
    ordered = sorted(radar, key=lambda i: (headers[i].start, i))
    group: list[int] = []
    for before, i in pairwise([ordered[0], *ordered]):
        if group and not _belongs(headers[i], [headers[k] for k in group], headers[before].start):
            yield group
            group = []
        group.append(i)
    yield group


def _belongs(header: Header, group: Sequence[Header], before: np.datetime64) -> bool:
    minutes = np.timedelta64(1, "m")
    if np.isnat(header.start) or np.isnat(before) or header.kind != group[0].kind:
        return False
    if (header.start - before) / minutes > LONGEST_PAUSE_MINUTES:
        return False
    if (header.start - group[0].start) / minutes > LONGEST_VOLUME_MINUTES:
        return False
    there = [part for one in group for part in one.parts]
    return not any(
        name == other and abs(elevation - angle) < SAME_ANGLE_DEG
        for elevation, name in header.parts
        for angle, other in there
    )


def joined(raws: Sequence[RawVolume]) -> RawVolume:
    """Return the sweeps of files that form one volume; fields of one sweep in several files become one sweep."""
    first = raws[0]
    sweeps: list[RawSweep] = []
    for sweep in (sweep for raw in raws for sweep in raw.sweeps):
        same = next((n for n, other in enumerate(sweeps) if _is_same_sweep(other, sweep)), None)
        if same is None:
            sweeps.append(sweep)
        else:
            sweeps[same] = replace(
                sweeps[same], moments={**sweeps[same].moments, **_turned(sweep, sweeps[same]).moments}
            )
    band = next((raw.band for raw in raws if raw.band), None)
    return RawVolume(first.kind, first.site, tuple(sweeps), band)


def _is_same_sweep(first: RawSweep, second: RawSweep) -> bool:
    """Whether two sweeps are one with its fields in two files: of one geometry, and without a common field."""
    return (
        abs(first.elevation - second.elevation) < SAME_ANGLE_DEG
        and len(first.azimuth_deg) == len(second.azimuth_deg)
        and np.array_equal(first.range_m, second.range_m)
        and not set(first.moments) & set(second.moments)
    )


def _turned(sweep: RawSweep, like: RawSweep) -> RawSweep:
    """Return the sweep with its rays in the order of another one, by azimuth."""
    rank = np.argsort(np.argsort(like.azimuth_deg, kind="stable"), kind="stable")
    return sweep.with_rays(np.argsort(sweep.azimuth_deg, kind="stable")[rank])
