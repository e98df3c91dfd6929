"""Group gridded volumes into events, and resample them to a regular step."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.files import replacing
from polarcast.data.ingest.days import days_of
from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.missing import missing_note
from polarcast.data.ingest.resample import to_regular_steps
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.gridding import GriddedVolume
from polarcast.data.ingest.volumes.rain import NO_RAIN, rain_description, rain_rate
from polarcast.data.ingest.volumes.site import is_same_radar
from polarcast.data.ingest.volumes.volume import RadarSite


@dataclass(frozen=True)
class Scan:
    """A gridded volume, cached in a file until its event is written."""

    time: np.datetime64
    site: RadarSite
    cache: Path
    sources: tuple[dict[str, str], ...]
    """Files, one or the pieces of the volume, and their SHA-256."""


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


def group_scans(scans: Sequence[Scan], max_gap_minutes: float) -> tuple[list[list[Scan]], list[Scan]]:
    """Group scans by radar into sequences without gaps longer than `max_gap_minutes`, ordered by time.

    Sequences of more than a day are divided into days, see `days_of`.
    Only the first of several scans at the same second is used, because an event has one frame per time.

    Returns:
        The sequences, and the scans that are not used.
    """
    ordered = sorted(scans, key=lambda s: (s.site.code, s.site.latitude, s.time, s.sources[0]["sha256"]))
    radars: list[list[Scan]] = []
    for scan in ordered:
        same = next((radar for radar in radars if is_same_radar(radar[0].site, scan.site)), None)
        radars.append([scan]) if same is None else same.append(scan)
    unused: list[Scan] = []
    runs = [run for radar in radars for run in _runs(radar, max_gap_minutes, unused)]
    return [run[a:b] for run in runs for a, b in days_of(np.array([scan.time for scan in run]))], unused


def _runs(scans: list[Scan], max_gap_minutes: float, unused: list[Scan]) -> Iterator[list[Scan]]:
    scans = sorted(scans, key=lambda s: (s.time, s.sources[0]["sha256"]))
    run = [scans[0]]
    for scan in scans[1:]:
        gap = (scan.time - run[-1].time) / np.timedelta64(1, "m")
        if gap > max_gap_minutes:
            yield run
            run = [scan]
        elif gap > 0:
            run.append(scan)
        else:
            unused.append(scan)
    yield run


def to_event(scans: Sequence[Scan], settings: VolumeSettings) -> IngestedEvent:
    """Build one event from consecutive scans, resampled to the archive's regular step."""
    gridded = [load_gridded(scan.cache) for scan in scans]
    radar = np.stack([g.radar for g in gridded])
    covered = np.stack([g.covered for g in gridded])
    times = np.array([g.time for g in gridded])
    regular = to_regular_steps(times, radar, None, covered, step_minutes=settings.step_minutes)
    observed, rain = regular.observed, None
    variables, band = gridded[0].variables, gridded[0].note["band"]
    if settings.has_rain:
        lowest = {name: regular.radar[:, place, 0] for place, name in enumerate(variables)}
        rain = rain_rate(settings.rain, lowest, band, settings.zr)
        if observed is not None:
            # Rain is that of the lowest level; it is unknown where a field that it is computed from is missing.
            observed = np.concatenate([observed, observed[:, :1] & np.isfinite(rain)[:, None]], axis=1)
        rain = np.nan_to_num(rain)
    return IngestedEvent(
        times=regular.times,
        radar=np.nan_to_num(regular.radar[:, : len(settings.variables)]).astype(np.float32),
        rain=rain,
        covered=covered.mean(0, dtype=np.float32),
        observed=observed,
        variables=settings.variables,
        heights_km=settings.grid.heights_km,
        note={
            **_provenance(gridded),
            "rain": rain_description(settings.rain, band, settings.zr) if settings.has_rain else NO_RAIN,
            "time": regular.note,
            **missing_note(regular.radar, settings.variables, settings.grid.heights_km),
        },
    )


def _provenance(gridded: Sequence[GriddedVolume]) -> dict[str, Any]:
    """Return the note that all frames share, and the gates removed from each volume."""
    first = gridded[0].note
    per_volume = [{"time": str(g.time), "elevations_deg": g.note["elevations_deg"],
                   "taken_out": g.note["steps"]["mask"]["taken_out"],
                   "left_out": g.note["steps"]["read"]["left_out"]} for g in gridded]  # fmt: skip
    return {**first, "volumes": per_volume}
