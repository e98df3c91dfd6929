"""Join volumes that networks deliver in pieces: a sweep or a moment in each file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from polarcast.data.ingest.volumes.alignment import SAME_ANGLE_DEG, with_joined_moments
from polarcast.data.ingest.volumes.readers.raw import PPI_MODES, RawSweep, RawVolume
from polarcast.data.ingest.volumes.schedule import (
    LONGEST_PAUSE_S,
    LONGEST_VOLUME_S,
    OTHER_SCAN,
    SECOND_CUT_S,
    SingleSweep,
    in_volumes,
)
from polarcast.data.ingest.volumes.site import is_place, is_same_radar
from polarcast.data.ingest.volumes.volume import RadarSite

_OTHER_TASK = np.timedelta64(5, "m")
"""Single sweeps of another task, such as one for precipitation near the ground, are between those of a volume."""
_NOMINAL_PAUSE = np.timedelta64(60, "s")
"""Nominal times that are rounded to minutes are of one volume; those of two volumes are farther apart."""
_MOST_SHARED = 0.2
"""Share of the times that two single sweeps may have in common by chance; more have the time of their volume."""
_FIELDS_S = 30.0
"""Fields of one sweep in several files start within it."""
_NEAR = np.timedelta64(round(LONGEST_PAUSE_S), "s")
"""Sweeps that do not rotate in azimuth are of the volume that has one so near."""


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

    @property
    def is_ppi(self) -> bool:
        """Whether it rotates in azimuth."""
        return self.mode in PPI_MODES and self.rays > 1

    def repeats(self, other: "SweepHeader", *, is_next: bool, is_single: bool) -> bool:
        """Whether the sweep has a field of another one again, as the next volume has.

        Args:
            other: An earlier sweep of the same radar.
            is_next: Whether the antenna was at no other elevation in between.
            is_single: Whether it is the only sweep of its file.
        """
        if not (self.is_ppi and other.is_ppi):
            return False
        if not self._is_at_elevation_of(other) or not self.moments.keys() & other.moments.keys():
            return False
        between = abs(self.start - other.start)
        if is_single and self.task and other.task and self.task != other.task:
            return not between < _OTHER_TASK
        return not (between <= np.timedelta64(round(SECOND_CUT_S), "s") and (is_next or self._is_of_other_scan(other)))

    def is_copy_of(self, other: "SweepHeader") -> bool:
        """Whether another sweep of the same scan has all its fields."""
        is_of_scan = self._is_at_elevation_of(other) and not self._is_of_other_scan(other)
        return is_of_scan and self.moments.keys() <= other.moments.keys()

    def _is_at_elevation_of(self, other: "SweepHeader") -> bool:
        return abs(self.elevation_deg - other.elevation_deg) < SAME_ANGLE_DEG

    def _is_of_other_scan(self, other: "SweepHeader") -> bool:
        pairs = ((self.rays, other.rays), (self.gates, other.gates), (self.gate_m, other.gate_m))
        return self.task != other.task or any(max(pair) > OTHER_SCAN * min(pair) for pair in pairs)


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
    def is_ppi(self) -> bool:
        """Whether its only sweep rotates in azimuth."""
        return len(self.sweeps) == 1 and self.sweeps[0].is_ppi

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


@dataclass(frozen=True)
class Grouping:
    """Files by volume.

    Attributes:
        volumes: Positions of the files of each volume, in the order of their times.
        incomplete: Numbers of last volumes that lack their last sweeps, as those before them tell: more may arrive.
    """

    volumes: list[list[int]]
    incomplete: frozenset[int] = frozenset()


def grouped(headers: Sequence[Header]) -> list[list[int]]:
    """Return the positions of the files that form each volume; see `grouping`."""
    return grouping(headers).volumes


def grouping(headers: Sequence[Header]) -> Grouping:
    """Find the files that form each volume.

    Single sweeps of one radar are joined by the cycle in which the radar repeats them, see `in_volumes`. Other files
    are joined while they add sweeps or fields. A field that is there at its elevation already, a pause, or too long a
    time starts the next volume; so does every file that holds a volume. Files of one time stay together: all files of
    a volume may have its nominal time.
    """
    radars: list[list[int]] = []
    for i in range(len(headers)):
        same = next((radar for radar in radars if is_same_radar(headers[radar[0]].site, headers[i].site)), None)
        radars.append([i]) if same is None else same.append(i)
    volumes: list[list[int]] = []
    incomplete: set[int] = set()
    for radar in radars:
        if not _are_single_sweeps([headers[i] for i in radar]):
            volumes += _in_time(radar, headers)
            continue
        found = in_volumes(_single_sweeps(radar, headers))
        groups = _with_others(radar, [[i for sweep in group for i in sweep.files] for group in found.groups], headers)
        incomplete |= set() if found.is_complete else {len(volumes) + len(found.groups) - 1}
        volumes += groups
    return Grouping(volumes, frozenset(incomplete))


def _are_single_sweeps(headers: Sequence[Header]) -> bool:
    """Whether files of a radar have a sweep each, and its time; not that of the volume, which several then share."""
    rotating = [header.sweeps[0] for header in headers if header.is_ppi]
    if any(len(header.sweeps) > 1 for header in headers) or len({header.kind for header in headers}) > 1:
        return False
    if not rotating or any(np.isnat(sweep.start) or not np.isfinite(sweep.elevation_deg) for sweep in rotating):
        return False
    elevations: dict[np.datetime64, set[float]] = {}
    for sweep in rotating:
        elevations.setdefault(sweep.start, set()).add(sweep.elevation_deg)
    shared = sum(max(angles) - min(angles) >= SAME_ANGLE_DEG for angles in elevations.values())
    return shared <= _MOST_SHARED * len(elevations)


def _single_sweeps(radar: Sequence[int], headers: Sequence[Header]) -> list[SingleSweep]:
    """Return the sweeps in azimuth in the order of their times; fields in several files are of one sweep."""
    sweeps: list[SingleSweep] = []
    before = np.nan
    for i in sorted(radar, key=lambda i: _order(headers[i].start, i)):
        one = headers[i].sweeps[0]
        start = float((one.start - np.datetime64(0, "s")) / np.timedelta64(1, "s"))
        size = (float(one.rays), float(one.gates), one.gate_m)
        pause, before = start - before, start
        if not one.is_ppi:
            continue
        sweep = SingleSweep((i,), start, one.elevation_deg, frozenset(one.moments), one.task, size, pause)
        same = (k for k in range(len(sweeps) - 1, -1, -1) if _are_fields_of_one(sweeps[k], sweep))
        place = next(same, None)
        if place is None:
            sweeps.append(sweep)
        else:
            known = sweeps[place]
            sweeps[place] = replace(known, files=(*known.files, i), moments=known.moments | sweep.moments)
    return sweeps


def _order(start: np.datetime64, i: int) -> tuple[bool, int, int]:
    """Return what files are sorted by: those without a time are last."""
    return bool(np.isnat(start)), int(start.astype(np.int64)), i


def _are_fields_of_one(first: SingleSweep, second: SingleSweep) -> bool:
    is_of_scan = first.is_at(second) and first.task == second.task and not first.moments & second.moments
    return is_of_scan and second.start - first.start <= _FIELDS_S


def _with_others(radar: Sequence[int], groups: list[list[int]], headers: Sequence[Header]) -> list[list[int]]:
    """Return the groups with the files of sweeps that do not rotate in azimuth, each with the sweep before it."""
    first = [min(headers[i].start for i in group) for group in groups]
    out = [list(group) for group in groups]
    alone: list[list[int]] = []
    for i in (i for i in radar if not headers[i].is_ppi):
        start = headers[i].start
        before = [n for n, begin in enumerate(first) if begin <= start]
        place = before[-1] if before else 0
        is_near = not np.isnat(start) and min(abs(start - headers[k].start) for k in out[place]) <= _NEAR
        out[place].append(i) if is_near else alone.append([i])
    return [sorted(group, key=lambda i: (headers[i].start, i)) for group in out] + alone


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
    second = np.timedelta64(1, "s")
    start, before, first = files[0].start, group[-1][0].start, group[0][0].start
    if np.isnat(start) or np.isnat(before) or files[0].kind != group[0][0].kind:
        return False
    are_nominal = _have_nominal_time(files) and _have_nominal_time(group[-1])
    if (start - before) / second > LONGEST_PAUSE_S or (are_nominal and start - before > _NOMINAL_PAUSE):
        return False
    if (start - first) / second > LONGEST_VOLUME_S:
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
