"""Tell what an ingestion would read from which file, without writing anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.frames import read_errors_as_bad_input
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.jobs import HeaderJob, InputFile, describe_one, is_gridded
from polarcast.data.ingest.volumes.pieces import Header, SweepHeader, grouped
from polarcast.data.ingest.volumes.volume import find_names
from polarcast.data.workers import run_all


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


def contents(files: Sequence[Path], settings: GridSettings, workers: int) -> list[FileContent]:
    """Describe inputs in their order; a file that can't be read has its reason.

    Args:
        files: Radar volumes, their pieces, or gridded sequences.
        settings: Settings of sequences, such as the name of the variable.
        workers: Number of processes.
    """
    found: list[FileContent | Header | None] = [None] * len(files)
    for index, outcome in run_all(_describe, [_FileJob(str(file), settings) for file in files], workers):
        found[index] = (
            FileContent(str(files[index]), "", {}, outcome.reason) if isinstance(outcome, BadInput) else outcome
        )
    volumes = [index for index, one in enumerate(found) if isinstance(one, Header)]
    headers = [one for one in found if isinstance(one, Header)]
    for number, group in enumerate(grouped(headers), start=1):
        for i in group:
            found[volumes[i]] = _of_volume(str(files[volumes[i]]), headers[i], number)
    return [one for one in found if isinstance(one, FileContent)]


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
        "north": str(source.note.get("north", "")),
        "west": str(source.note.get("columns", "")),
    }
    return FileContent(job.file, f"sequence ({source.note['layout']})", what)


def _period(times: Times) -> str:
    return f"{times[0]} to {times[-1]}, {len(times)} frame{'s' * (len(times) > 1)}"


def _of_volume(file: str, header: Header, number: int) -> FileContent:
    sweeps = header.sweeps
    flaws = sorted({sweep.flaw for sweep in sweeps if sweep.flaw})
    modes = sorted({sweep.mode for sweep in sweeps if sweep.mode})
    what = {
        "radar": _place(header),
        "band": header.band or "unknown",
        "time": "unknown" if np.isnat(header.start) else str(header.start),
        "sweeps": f"{len(sweeps)}: {', '.join(f'{sweep.elevation_deg:g}' for sweep in sweeps)}°",
        "rays": _range_of([f"{sweep.rays} × {sweep.gates} of {sweep.gate_m:g} m" for sweep in sweeps]),
        "fields": _fields_of(sweeps),
        "mode": ", ".join(modes),
        "flags": "; ".join(flaws),
    }
    return FileContent(file, header.kind, what, volume=number)


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
