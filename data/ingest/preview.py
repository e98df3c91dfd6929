"""Tell what an ingestion would read from which file, without writing anything."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.formats import read_volume
from polarcast.data.ingest.grids.frames import read_errors_as_bad_input
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.jobs import HeaderJob, InputFile, describe_one, is_gridded
from polarcast.data.ingest.volumes.frame import VolumeSettings, checked_band
from polarcast.data.ingest.volumes.pieces import Header, SweepHeader, grouped
from polarcast.data.ingest.volumes.volume import find_names
from polarcast.data.workers import failures_as_bad_input, run_all


@dataclass(frozen=True)
class _FileJob:
    file: str
    settings: GridSettings


@dataclass(frozen=True)
class FileContent:
    """What one input contains.

    Attributes:
        file: Path.
        kind: Format; empty if it could not be read.
        what: Facts by name: radar, time, sweeps, fields; or variable, times, pixels.
        problem: Why it can't be used; empty if it can.
        volume: Number of the volume that it is a part of, from 1; 0 for sequences and files that can't be used.
    """

    file: str
    kind: str
    what: dict[str, str]
    problem: str = ""
    volume: int = 0

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {"file": self.file, "kind": self.kind, "volume": self.volume, **self.what, "problem": self.problem}


@dataclass(frozen=True)
class _VolumeCheck:
    """Find out whether the files of a volume can be ingested."""

    files: tuple[str, ...]
    settings: VolumeSettings


def contents(
    files: Sequence[Path], settings: GridSettings, workers: int, volumes: VolumeSettings | None = None
) -> list[FileContent]:
    """Describe inputs in their order; a file that can't be read, or a volume that can't be used, has its reason.

    Args:
        files: Radar volumes, their pieces, or gridded sequences.
        settings: Settings of sequences, such as the name of the variable.
        workers: Number of processes.
        volumes: Settings of volumes, such as the variables.
    """
    found: list[FileContent | Header | None] = [None] * len(files)
    for index, outcome in run_all(_describe, [_FileJob(str(file), settings) for file in files], workers):
        found[index] = (
            FileContent(str(files[index]), "", {}, outcome.reason) if isinstance(outcome, BadInput) else outcome
        )
    places = [index for index, one in enumerate(found) if isinstance(one, Header)]
    headers = [one for one in found if isinstance(one, Header)]
    groups = grouped(headers)
    checks = [
        _VolumeCheck(tuple(str(files[places[i]]) for i in group), volumes or VolumeSettings()) for group in groups
    ]
    problems = [""] * len(groups)
    for index, failure in run_all(_check, checks, workers):
        problems[index] = failure.reason if failure else ""
    numbers = count(1)
    for group, problem in zip(groups, problems, strict=True):
        number = 0 if problem else next(numbers)
        for i in group:
            found[places[i]] = _of_volume(str(files[places[i]]), headers[i], number, problem)
    return [one for one in found if isinstance(one, FileContent)]


@failures_as_bad_input("reading it failed", "if its file is whole, report this line")
def _check(check: _VolumeCheck) -> None:
    """Read a volume as an ingestion does. Raises BadInput if it would be left out before it is gridded."""
    paths = [Path(file) for file in check.files]
    with read_errors_as_bad_input(paths[0], "radar volume"):
        volume = read_volume(paths, check.settings.measured, check.settings.site, dict(check.settings.names))
        checked_band(volume, check.settings, paths[0])


def _describe(job: _FileJob) -> FileContent | Header:
    path = Path(job.file)
    if not is_gridded(path):
        return describe_one(HeaderJob(InputFile(job.file, "")))
    with read_errors_as_bad_input(path):
        source = open_source(path, job.settings)
    times, spacing = source.times, source.geometry.spacing_km
    variables = source.note.get("variables") or {source.note.get("variable", "data"): source.note["units"]}
    heights = ", ".join(f"{height:g}" for height in source.heights_km or ())
    what = {
        "fields": ", ".join(f"{name} ({text})" for name, text in variables.items()),
        "heights": f"{heights} km" if heights else "",
        "time": ", ".join(filter(None, (_period(times), str(source.note.get("time", ""))))),
        "grid": f"{source.geometry.shape[1]} × {source.geometry.shape[0]} pixels of {spacing[1]:.3g} km",
        "spacing": str(source.note.get("ground", "")),
        "without": "; ".join(source.parts[0].not_taken),
        "north": str(source.note.get("north", "")),
        "west": str(source.note.get("columns", "")),
    }
    return FileContent(job.file, f"sequence ({source.note['layout']})", what)


def _period(times: Times) -> str:
    return f"{times[0]} to {times[-1]}, {len(times)} frame{'s' * (len(times) > 1)}"


def _of_volume(file: str, header: Header, number: int, problem: str) -> FileContent:
    sweeps = header.sweeps
    flaws = Counter(sweep.flaw for sweep in sweeps if sweep.flaw)
    modes = sorted({sweep.mode for sweep in sweeps if sweep.mode})
    with_rays = [sweep for sweep in sweeps if sweep.rays and sweep.gates]
    what = {
        "radar": _place(header),
        "band": header.band or "unknown",
        "time": "unknown" if np.isnat(header.start) else str(header.start),
        "sweeps": _elevations_of(sweeps),
        "rays": _range_of([_size_of(sweep) for sweep in with_rays]) if with_rays else "none",
        "fields": _fields_of(sweeps),
        "mode": ", ".join(modes),
        "flags": "; ".join(f"{flaw}{f' ({number} sweeps)' * (number > 1)}" for flaw, number in sorted(flaws.items())),
    }
    return FileContent(file, header.kind, what, problem, number)


def _elevations_of(sweeps: Sequence[SweepHeader]) -> str:
    """Return the number of sweeps and their elevations, and how many have none."""
    known = [f"{sweep.elevation_deg:g}" for sweep in sweeps if np.isfinite(sweep.elevation_deg)]
    unknown = f"{len(sweeps) - len(known)} without elevation" if len(known) < len(sweeps) else ""
    return f"{len(sweeps)}: " + ", ".join(filter(None, (f"{', '.join(known)}°" if known else "", unknown)))


def _size_of(sweep: SweepHeader) -> str:
    spacing = f" of {sweep.gate_m:g} m" if sweep.gates > 1 else ""
    return f"{sweep.rays} × {sweep.gates}{spacing}"


def _place(header: Header) -> str:
    site = header.site
    return f"{site.code or 'unnamed'} at {_degrees(site.latitude, 'NS')}, {_degrees(site.longitude, 'EW')}"


def _degrees(angle: float, sides: str) -> str:
    """Return an angle with the letter of its side, the first for positive ones: 33.7° S."""
    return f"{abs(angle):.4g}° {sides[angle < 0]}" if np.isfinite(angle) else "unknown"


def _range_of(texts: Sequence[str]) -> str:
    different = list(dict.fromkeys(texts))
    return different[0] if len(different) == 1 else f"{different[0]} to {different[-1]}"


def _fields_of(sweeps: Sequence[SweepHeader]) -> str:
    """Return the fields by standard name, with their name and units in the file."""
    units = {name: unit for sweep in sweeps for name, unit in sweep.moments.items()}
    known = find_names(list(units))
    texts = [f"{ours} ({theirs}{f', {units[theirs]}' if units[theirs] else ''})" for ours, theirs in known.items()]
    return ", ".join(texts) or f"none of ours ({', '.join(units)})"
