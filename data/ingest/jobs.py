"""Jobs of the worker processes. Jobs are picklable, because they are sent to other processes."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import UNITS, VARIABLES, write_event
from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.formats import format_of, read_volume
from polarcast.data.ingest.grids.events import Piece, plan, read_piece
from polarcast.data.ingest.grids.frames import read_errors_as_bad_input
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.quicklook import Native, draw_event, strongest_frame
from polarcast.data.ingest.volumes.events import Scan, load_gridded, save_gridded, to_event
from polarcast.data.ingest.volumes.frame import VolumeSettings, grid_volume
from polarcast.data.origins import source_of
from polarcast.data.quality import summarize_event

PICTURES = "pictures"
_SEQUENCE_SUFFIXES = (".npz", ".zarr")
_ZARR_NOTES = ("zarr.json", ".zgroup", ".zmetadata")


@dataclass(frozen=True)
class InputFile:
    """Input and its SHA-256."""

    file: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "InputFile":
        """Hash the input at a path; for a folder (Zarr), hash its files including their names."""
        if not path.is_dir():
            with path.open("rb") as stream:
                return cls(str(path), hashlib.file_digest(stream, "sha256").hexdigest())
        total = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(f"{file.relative_to(path)} {cls.of(file).sha256}\n".encode())
        return cls(str(path), total.hexdigest())


@dataclass(frozen=True)
class VolumeJob:
    """Grid one volume and write the result to a file."""

    source: InputFile
    cache: Path
    settings: VolumeSettings


@dataclass(frozen=True)
class PlanJob:
    """Find the events in one gridded sequence."""

    source: InputFile
    settings: GridSettings


@dataclass(frozen=True)
class Plan:
    """Events found in a gridded sequence, and the number of dropped parts by reason."""

    source: InputFile
    pieces: tuple[Piece, ...]
    has_rain: bool
    dropped: Counter[str]


@dataclass(frozen=True)
class VolumeEventJob:
    """Write one event of gridded volumes."""

    out: Path
    number: int
    settings: VolumeSettings
    pictures: bool
    scans: tuple[Scan, ...] = field(repr=False)

    @property
    def spacing_km(self) -> float:
        """Pixel spacing in km."""
        return self.settings.grid.spacing_km

    @property
    def name(self) -> str:
        """Name in error messages."""
        return f"event {self.number:03d} from {self.scans[0].source['file']}"

    def read(self) -> IngestedEvent:
        """Read the event. Raises BadInput for values that no event can have."""
        with read_errors_as_bad_input(Path(self.scans[0].source["file"]), "radar volume"):
            return to_event(self.scans, self.settings)

    def native(self, event: IngestedEvent) -> Native | None:
        """Return the lowest sweep of the scan nearest in time to the event's strongest frame."""
        drawn = event.times[strongest_frame(event)]
        nearest = min(self.scans, key=lambda scan: abs(scan.time - drawn))
        sweeps = read_volume(Path(nearest.source["file"]), self.settings.measured).sweeps
        return Native.of_sweep(min(sweeps, key=lambda s: s.elevation_deg.mean()))

    def provenance(self) -> dict[str, Any]:
        """Return the sources for the event's note."""
        return {"sources": [scan.source for scan in self.scans]}


@dataclass(frozen=True)
class PieceJob:
    """Write one tile and period of a gridded sequence as an event."""

    out: Path
    number: int
    settings: GridSettings
    pictures: bool
    source: InputFile
    piece: Piece = field(repr=False)
    spacing_km: float = 1.0

    @property
    def name(self) -> str:
        """Name in error messages."""
        return f"event {self.number:03d} from {self.source.file}"

    def read(self) -> IngestedEvent:
        """Read the event. Raises BadInput for a damaged file."""
        with read_errors_as_bad_input(self.piece.path):
            return read_piece(self.piece, self.settings)

    def native(self, event: IngestedEvent) -> Native | None:
        """Return None, because the tile has the same fields as the input."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Return the sources for the event's note."""
        return {"sources": [asdict(self.source)], "identity": piece_identity(self.source, self.piece)}


EventJob = VolumeEventJob | PieceJob


def is_gridded(path: Path) -> bool:
    """Whether an input is a gridded sequence and not a radar volume."""
    if path.suffix in _SEQUENCE_SUFFIXES or any((path / name).exists() for name in _ZARR_NOTES):
        return True
    return path.is_file() and path.suffix in (".nc", ".nc4", ".cdf") and format_of(path) is None


def piece_identity(source: InputFile, piece: Piece) -> str:
    """Return an identifier that is stable for the same part of the same content."""
    return f"{source.sha256}/{piece.identity}"


def grid_one(job: VolumeJob) -> Scan:
    """Grid a volume, unless an interrupted run already did."""
    path = Path(job.source.file)
    if not job.cache.exists():
        with read_errors_as_bad_input(path, "radar volume"):
            made = grid_volume(path, job.settings)
        save_gridded(made, job.cache)
    gridded = load_gridded(job.cache)
    # Rounded, because formats store sites with different precision; no two radars are within a kilometre.
    site = tuple(round(gridded.note["site"][name], 2) for name in ("latitude", "longitude"))
    if np.isnat(gridded.time) or not np.isfinite(site).all():
        raise BadInput("no time, or no position of the radar", path, "copy it again from its source")
    return Scan(gridded.time, (site[0], site[1]), job.cache, asdict(job.source))


def plan_one(job: PlanJob) -> Plan:
    """Find the pieces of a gridded sequence."""
    path = Path(job.source.file)
    with read_errors_as_bad_input(path):
        source = open_source(path, job.settings)
        pieces, dropped = plan(source, job.settings)
    return Plan(job.source, tuple(pieces), source.has_rain, Counter(dict(dropped)))


def write_one(job: EventJob) -> int:
    """Write one event with its note and optional picture; return its number."""
    event = job.read()
    note = {**job.provenance(), **_note(event, job.settings.step_minutes, job.spacing_km)}
    note["source"] = source_of(note)  # with the times and the extent, all that the groups of `data shard` need
    if job.pictures:
        draw_event(job.out / PICTURES / f"data_dir_{job.number:03d}.png", event, job.native(event), job.spacing_km)
    write_event(
        job.out, job.number, event.radar, event.rain,
        variables=event.variables, heights_km=event.heights_km, note=note,
        observed=None if event.observed is None or event.observed.all() else event.observed,
    )  # fmt: skip
    return job.number


def _note(event: IngestedEvent, step_minutes: float, spacing_km: float) -> dict[str, Any]:
    """Return the note of an event: units, absent variables, times, quality and provenance."""
    quality = summarize_event(
        event.radar, event.variables, covered=event.covered, step_minutes=step_minutes, spacing_km=spacing_km
    )
    has = (*event.variables, *(("rain_rate",) if event.rain is not None else ()))
    return {
        "units": {name: UNITS[name] for name in has},
        "absent": [name for name in (*VARIABLES, "rain_rate") if name not in has],
        "times": [str(t) for t in event.times],
        "quality": quality,
        **json.loads(json.dumps(event.note, default=str)),
    }
