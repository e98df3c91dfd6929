"""Gridded volumes in order of time → events at a regular step."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.resample import to_regular_steps
from polarcast.data.ingest.volumes.frame import VolumeSettings, rain_of_kdp, rain_story
from polarcast.data.ingest.volumes.gridding import GriddedVolume


@dataclass(frozen=True)
class Scan:
    """A gridded volume that waits in a file to become part of an event."""

    time: np.datetime64
    site: tuple[float, float]
    cache: Path
    source: dict[str, str]
    """Its file and the file's SHA-256."""


def save_gridded(gridded: GriddedVolume, path: Path) -> None:
    """Keep a gridded volume until its event is complete; appears whole or not at all."""
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            time=gridded.time,
            radar=gridded.radar.astype(np.float32),
            covered=gridded.covered,
            variables=np.array(gridded.variables),
            note=np.array(json.dumps(gridded.note)),
        )
    partial.replace(path)


def load_gridded(path: Path) -> GriddedVolume:
    """What `save_gridded` kept."""
    with np.load(path, allow_pickle=False) as kept:
        return GriddedVolume(
            time=kept["time"].astype("datetime64[s]")[()],
            radar=kept["radar"],
            covered=kept["covered"],
            variables=tuple(map(str, kept["variables"])),
            note=json.loads(str(kept["note"])),
        )


def group_scans(scans: Sequence[Scan], max_gap_minutes: float) -> list[list[Scan]]:
    """Scans of one radar with no longer gap between them, in order of time; another radar is another event.

    Of scans at the same second only the first is taken: an event has one frame for a time.
    """
    ordered = sorted(scans, key=lambda s: (s.site, s.time, s.source["sha256"]))
    sites = (list(scans) for _, scans in groupby(ordered, key=lambda s: s.site))
    return [run for of_site in sites for run in _runs(of_site, max_gap_minutes)]


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
    """One event of consecutive scans, resampled to the archive's regular step."""
    gridded = [load_gridded(scan.cache) for scan in scans]
    radar = np.stack([g.radar for g in gridded])
    regular = to_regular_steps(np.array([g.time for g in gridded]), radar, None, step_minutes=settings.step_minutes)
    variables, band = gridded[0].variables, gridded[0].note["band"]
    rain = rain_of_kdp(regular.radar[:, variables.index("kdp"), 0], band) if settings.has_rain else None
    return IngestedEvent(
        times=regular.times,
        radar=np.nan_to_num(regular.radar).astype(np.float32),
        rain=rain,
        covered=np.mean([g.covered for g in gridded], axis=0, dtype=np.float32),
        variables=variables,
        heights_km=settings.grid.heights_km,
        note={**_story(gridded), "rain": rain_story(band) if settings.has_rain else "none", "time": regular.note},
    )


def _story(gridded: Sequence[GriddedVolume]) -> dict[str, Any]:
    """What all frames share, and what was taken out of each."""
    first = gridded[0].note
    per_volume = [{"time": str(g.time), "elevations_deg": g.note["elevations_deg"],
                   "taken_out": g.note["steps"]["mask"]["taken_out"]} for g in gridded]  # fmt: skip
    return {**first, "volumes": per_volume}
