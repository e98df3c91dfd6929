"""Join volumes that networks deliver in pieces: a sweep or a moment in each file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from polarcast.data.ingest.volumes.alignment import SAME_ANGLE_DEG, with_joined_moments
from polarcast.data.ingest.volumes.readers.raw import RawSweep, RawVolume
from polarcast.data.ingest.volumes.site import is_place, is_same_radar
from polarcast.data.ingest.volumes.volume import RadarSite

LONGEST_VOLUME_MINUTES = 12.0
LONGEST_PAUSE_MINUTES = 5.0
"""Pieces with a longer pause between them are of two volumes."""
_SECOND_CUT = np.timedelta64(60, "s")
"""A second cut at an elevation, such as the Doppler scan after the surveillance scan, starts within it."""
_OTHER_TASK = np.timedelta64(5, "m")
"""Single sweeps of another task, such as one for precipitation near the ground, are between those of a volume."""
_NOMINAL_PAUSE = np.timedelta64(60, "s")
"""Nominal times that are rounded to minutes are of one volume; those of two volumes are farther apart."""
_OTHER_SCAN = 1.2
"""Cuts whose numbers of rays or gates, or their spacing, have a larger ratio are of two scans."""


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
        flaw: Why the file says that it, or some of its fields, must not be used.
        task: Name of the scan in the radar's schedule.
    """

    elevation_deg: float
    mode: str
    rays: int
    gates: int
    gate_m: float
    start: np.datetime64
    moments: dict[str, str]
    flaw: str = ""
    task: str = ""

    def repeats(self, other: "SweepHeader", *, is_next: bool, is_single: bool) -> bool:
        """Whether the sweep has a field of another one again, as the next volume has.

        Args:
            other: An earlier sweep of the same radar.
            is_next: Whether the antenna was at no other elevation in between.
            is_single: Whether it is the only sweep of its file.
        """
        if not self._is_at_elevation_of(other) or not self.moments.keys() & other.moments.keys():
            return False
        between = abs(self.start - other.start)
        if is_single and self.task and other.task and self.task != other.task:
            return not between < _OTHER_TASK
        return not (between <= _SECOND_CUT and (is_next or self._is_of_other_scan(other)))

    def is_copy_of(self, other: "SweepHeader") -> bool:
        """Whether another sweep of the same scan has all its fields."""
        is_of_scan = self._is_at_elevation_of(other) and not self._is_of_other_scan(other)
        return is_of_scan and self.moments.keys() <= other.moments.keys()

    def _is_at_elevation_of(self, other: "SweepHeader") -> bool:
        return abs(self.elevation_deg - other.elevation_deg) < SAME_ANGLE_DEG

    def _is_of_other_scan(self, other: "SweepHeader") -> bool:
        pairs = ((self.rays, other.rays), (self.gates, other.gates), (self.gate_m, other.gate_m))
        return self.task != other.task or any(max(pair) > _OTHER_SCAN * min(pair) for pair in pairs)


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
    def elevations(self) -> set[float]:
        """Known elevations of the sweeps in degrees."""
        return {sweep.elevation_deg for sweep in self.sweeps if np.isfinite(sweep.elevation_deg)}


def _header_of(sweep: RawSweep) -> SweepHeader:
    steps = np.diff(sweep.range_m)
    return SweepHeader(
        elevation_deg=round(sweep.elevation, 2),
        mode=sweep.mode,
        rays=len(sweep.azimuth_deg),
        gates=len(sweep.range_m),
        gate_m=float(steps.mean()) if len(steps) else 0.0,
        start=sweep.start.astype("datetime64[s]"),
        moments={name: moment.units for name, moment in sweep.moments.items()},
        flaw="; ".join(filter(None, [sweep.flaw, *(f"{name}: {why}" for name, why in sweep.unusable.items())])),
        task=sweep.task,
    )


def grouped(headers: Sequence[Header]) -> list[list[int]]:
    """Return the positions of the files that form each volume, in the order of their times.

    Files of one radar are joined while they add sweeps or fields. A field that is there at its elevation already, a
    pause, or too long a time starts the next volume; so does every file that holds a volume. A second cut of a minute
    at most is of the same volume. Files of one time stay together: all files of a volume may have its nominal time.
    """
    radars: list[list[int]] = []
    for i in range(len(headers)):
        same = next((radar for radar in radars if is_same_radar(headers[radar[0]].site, headers[i].site)), None)
        radars.append([i]) if same is None else same.append(i)
    return [group for radar in radars for group in _in_time(radar, headers)]


def _in_time(radar: Sequence[int], headers: Sequence[Header]) -> Iterator[list[int]]:
    group: list[list[int]] = []
    for files in _of_one_time(radar, headers):
        if group and not _belong([headers[i] for i in files], [[headers[k] for k in part] for part in group]):
            yield [i for part in group for i in part]
            group = []
        group.append(files)
    yield [i for part in group for i in part]


def _of_one_time(radar: Sequence[int], headers: Sequence[Header]) -> Iterator[list[int]]:
    """Yield the files of each start, in order; copies of a volume, and files without a time, one by one."""
    starts = {i: headers[i].start for i in radar}
    ordered = sorted(radar, key=lambda i: (bool(np.isnat(starts[i])), starts[i].astype(np.int64), headers[i].kind, i))
    for _, of_one_time in groupby(ordered, key=lambda i: (starts[i].astype(np.int64), headers[i].kind)):
        together: list[int] = []
        for i in of_one_time:
            if together and (np.isnat(starts[i]) or _is_copy(headers[i], [headers[k] for k in together])):
                yield together
                together = []
            together.append(i)
        yield together


def _is_copy(header: Header, others: Sequence[Header]) -> bool:
    """Whether a file holds several elevations, all of which others have with the same fields."""
    there = [sweep for other in others for sweep in other.sweeps]
    are_there = (any(sweep.is_copy_of(other) for other in there) for sweep in header.sweeps)
    return len(header.elevations) > 1 and all(are_there)


def _belong(files: Sequence[Header], group: Sequence[Sequence[Header]]) -> bool:
    """Whether files of one time are of the volume whose files, by their times, come before."""
    minutes = np.timedelta64(1, "m")
    start, before, first = files[0].start, group[-1][0].start, group[0][0].start
    if np.isnat(start) or np.isnat(before) or files[0].kind != group[0][0].kind:
        return False
    are_nominal = _have_nominal_time(files) and _have_nominal_time(group[-1])
    if (start - before) / minutes > LONGEST_PAUSE_MINUTES or (are_nominal and start - before > _NOMINAL_PAUSE):
        return False
    if (start - first) / minutes > LONGEST_VOLUME_MINUTES:
        return False
    is_cut = _are_at_one_elevation([*files, *group[-1]])
    return not any(
        sweep.repeats(other, is_next=is_cut and earlier is group[-1], is_single=len(file.sweeps) == 1)
        for file in files
        for sweep in file.sweeps
        for earlier in group
        for one in earlier
        for other in one.sweeps
    )


def _are_at_one_elevation(files: Sequence[Header]) -> bool:
    elevations = [elevation for file in files for elevation in file.elevations]
    return max(elevations, default=0.0) - min(elevations, default=0.0) < SAME_ANGLE_DEG


def _have_nominal_time(files: Sequence[Header]) -> bool:
    """Whether files of one start have other elevations, which an antenna can't have at once."""
    return any(file.elevations and files[0].elevations and not file.elevations & files[0].elevations for file in files)


def joined(raws: Sequence[RawVolume]) -> RawVolume:
    """Return the sweeps of files that form one volume; fields of one sweep in several files become one sweep."""
    site = next((raw.site for raw in raws if is_place(raw.site)), raws[0].site)
    band = next((raw.band for raw in raws if raw.band), None)
    sweeps = with_joined_moments([sweep for raw in raws for sweep in raw.sweeps])
    return RawVolume(raws[0].kind, site, tuple(sweeps), band)
