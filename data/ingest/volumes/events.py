"""Group gridded volumes into events, and resample them to a regular step."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.files import replacing
from polarcast.data.ingest.days import days_of
from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.resample import to_regular_steps
from polarcast.data.ingest.volumes.frame import VolumeSettings, rain_description, rain_of_kdp
from polarcast.data.ingest.volumes.gridding import GriddedVolume


@dataclass(frozen=True)
class Scan:
    """A gridded volume, cached in a file until its event is written."""

    time: np.datetime64
    site: tuple[float, float]
    cache: Path
    source: dict[str, str]
    """File and its SHA-256."""


def save_gridded(gridded: GriddedVolume, path: Path) -> None:
    """Write a gridded volume to the cache atomically."""
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            time=gridded.time,
            radar=gridded.radar.astype(np.float32),
            covered=gridded.covered,
            variables=np.array(gridded.variables),
            note=np.array(json.dumps(gridded.note)),
        )


def load_gridded(path: Path) -> GriddedVolume:
    """Load a volume written by `save_gridded`."""
    with np.load(path, allow_pickle=False) as content:
        return GriddedVolume(
            time=content["time"].astype("datetime64[s]")[()],
            radar=content["radar"],
            covered=content["covered"],
            variables=tuple(map(str, content["variables"])),
            note=json.loads(str(content["note"])),
        )


def group_scans(scans: Sequence[Scan], max_gap_minutes: float) -> list[list[Scan]]:
    """Group scans by radar into sequences without gaps longer than `max_gap_minutes`, ordered by time.

    Sequences of more than a day are divided into days, see `days_of`.
    Only the first of several scans at the same second is used, because an event has one frame per time.
    """
    ordered = sorted(scans, key=lambda s: (s.site, s.time, s.source["sha256"]))
    sites = (list(scans) for _, scans in groupby(ordered, key=lambda s: s.site))
    runs = [run for site_scans in sites for run in _runs(site_scans, max_gap_minutes)]
    return [run[start:stop] for run in runs for start, stop in days_of(np.array([scan.time for scan in run]))]


def _runs(scans: list[Scan], max_gap_minutes: float) -> Iterator[list[Scan]]:
    run = [scans[0]]
    for scan in scans[1:]:
        gap = (scan.time - run[-1].time) / np.timedelta64(1, "m")
        if gap > max_gap_minutes:
            yield run
            run = [scan]
        elif gap > 0:
            run.append(scan)
    yield run


def to_event(scans: Sequence[Scan], settings: VolumeSettings) -> IngestedEvent:
    """Build one event from consecutive scans, resampled to the archive's regular step."""
    gridded = [load_gridded(scan.cache) for scan in scans]
    radar = np.stack([g.radar for g in gridded])
    covered = np.stack([g.covered for g in gridded])
    times = np.array([g.time for g in gridded])
    regular = to_regular_steps(times, radar, None, covered, step_minutes=settings.step_minutes)
    observed = regular.observed
    if observed is not None and settings.has_rain:
        observed = np.concatenate([observed, observed[:, :1]], axis=1)  # rain is that of the lowest level
    variables, band = gridded[0].variables, gridded[0].note["band"]
    rain = rain_of_kdp(regular.radar[:, variables.index("kdp"), 0], band) if settings.has_rain else None
    return IngestedEvent(
        times=regular.times,
        radar=np.nan_to_num(regular.radar).astype(np.float32),
        rain=rain,
        covered=covered.mean(0, dtype=np.float32),
        observed=observed,
        variables=variables,
        heights_km=settings.grid.heights_km,
        note={
            **_provenance(gridded),
            "rain": rain_description(band) if settings.has_rain else "none",
            "time": regular.note,
        },
    )


def _provenance(gridded: Sequence[GriddedVolume]) -> dict[str, Any]:
    """Return the note that all frames share, and the gates removed from each volume."""
    first = gridded[0].note
    per_volume = [{"time": str(g.time), "elevations_deg": g.note["elevations_deg"],
                   "taken_out": g.note["steps"]["mask"]["taken_out"]} for g in gridded]  # fmt: skip
    return {**first, "volumes": per_volume}
