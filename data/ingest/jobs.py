"""Jobs of the worker processes. Jobs are picklable, because they are sent to other processes."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import UNITS, VARIABLES, write_event
from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.formats import format_of, read_raw, read_volume
from polarcast.data.ingest.grids.events import Piece, heights_of, plan, read_piece
from polarcast.data.ingest.grids.frames import read_errors_as_bad_input
from polarcast.data.ingest.grids.grib_file import is_grib
from polarcast.data.ingest.grids.joining import SequenceHeader
from polarcast.data.ingest.grids.odim_file import is_composite
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.quicklook import Native, draw_event, strongest_frame
from polarcast.data.ingest.volumes.events import Scan, load_gridded, save_gridded, to_event
from polarcast.data.ingest.volumes.frame import VolumeSettings, grid_volume
from polarcast.data.ingest.volumes.pieces import Header
from polarcast.data.ingest.volumes.site import is_place
from polarcast.data.ingest.volumes.volume import RadarSite
from polarcast.data.origins import source_of
from polarcast.data.quality import summarize_event
from polarcast.data.workers import failures_as_bad_input

PICTURES = "pictures"
_REPORT = "if its file is whole, report this line"
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
        files = sorted(p for p in path.rglob("*") if p.is_file())
        if not files:
            total.update(f"empty folder {path.name}".encode())  # it is not a copy of an empty file
        for file in files:
            total.update(f"{file.relative_to(path)} {cls.of(file).sha256}\n".encode())
        return cls(str(path), total.hexdigest())


@dataclass(frozen=True)
class HeaderJob:
    """Find out what a file of sweeps contains."""

    source: InputFile


@dataclass(frozen=True)
class VolumeJob:
    """Grid one volume, of one file or in pieces, and write the result to a file."""

    sources: tuple[InputFile, ...]
    cache: Path
    settings: VolumeSettings

    @property
    def name(self) -> str:
        """Name in error messages."""
        more = len(self.sources) - 1
        return self.sources[0].file + (f" and {more} more piece{'s' * (more > 1)}" if more else "")


@dataclass(frozen=True)
class SequenceHeaderJob:
    """Find out what decides with which files a gridded one is joined."""

    source: InputFile
    settings: GridSettings


@dataclass(frozen=True)
class PlanJob:
    """Find the events in one gridded sequence, of one file or of several."""

    sources: tuple[InputFile, ...]
    settings: GridSettings


@dataclass(frozen=True)
class Plan:
    """Events found in a gridded sequence, and the number of dropped parts by reason.

    Attributes:
        sources: Files of the sequence.
        pieces: Its events.
        has_rain: Whether it has rain.
        dropped: Number of dropped parts by reason.
        dropped_from: Files of dropped frames by reason; other parts are of all files.
        measured: Its radar variables; none if zh is derived from rain.
        heights_km: Heights of its events.
    """

    sources: tuple[InputFile, ...]
    pieces: tuple[Piece, ...]
    has_rain: bool
    dropped: Counter[str]
    measured: tuple[str, ...] = ("zh",)
    heights_km: tuple[float, ...] = (1.0,)
    dropped_from: dict[str, list[str]] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, ...]:
        """Radar variables of its events."""
        return self.measured or ("zh",)


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
        return f"event {self.number:03d} from {self.scans[0].sources[0]['file']}"

    def read(self) -> IngestedEvent:
        """Read the event. Raises BadInput for values that no event can have."""
        with read_errors_as_bad_input(Path(self.scans[0].sources[0]["file"]), "radar volume"):
            return to_event(self.scans, self.settings)

    def native(self, event: IngestedEvent) -> Native | None:
        """Return the lowest sweep of the scan nearest in time to the event's strongest frame."""
        drawn = event.times[strongest_frame(event)]
        nearest = min(self.scans, key=lambda scan: abs(scan.time - drawn))
        files = [Path(source["file"]) for source in nearest.sources]
        sweeps = read_volume(files, self.settings.measured, self.settings.site, dict(self.settings.names)).sweeps
        return Native.of_sweep(min(sweeps, key=lambda s: s.elevation_deg.mean()))

    def provenance(self) -> dict[str, Any]:
        """Return the sources for the event's note."""
        return {"sources": [source for scan in self.scans for source in scan.sources]}


@dataclass(frozen=True)
class PieceJob:
    """Write one tile and period of a gridded sequence as an event."""

    out: Path
    number: int
    settings: GridSettings
    pictures: bool
    sources: tuple[InputFile, ...]
    piece: Piece = field(repr=False)
    spacing_km: float = 1.0

    @property
    def name(self) -> str:
        """Name in error messages."""
        return f"event {self.number:03d} from {name_of(self.sources)}"

    def read(self) -> IngestedEvent:
        """Read the event. Raises BadInput for a damaged file."""
        with read_errors_as_bad_input(self.piece.files[0]):
            return read_piece(self.piece, self.settings)

    def native(self, event: IngestedEvent) -> Native | None:
        """Return None, because the tile has the same fields as the input."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Return the sources for the event's note."""
        return {"sources": [asdict(s) for s in self.sources], "identity": piece_identity(self.sources, self.piece)}


EventJob = VolumeEventJob | PieceJob


def is_gridded(path: Path) -> bool:
    """Whether an input is a gridded sequence and not a radar volume."""
    if path.suffix in _SEQUENCE_SUFFIXES or any((path / name).exists() for name in _ZARR_NOTES):
        return True
    if not path.is_file():
        return False
    return is_grib(path) or is_composite(path) or (path.suffix in (".nc", ".nc4", ".cdf") and format_of(path) is None)


def piece_identity(sources: Sequence[InputFile], piece: Piece) -> str:
    """Return an identifier that is stable for the same part of the same content."""
    return f"{sha256_of(sources)}/{piece.identity}"


def sha256_of(sources: Sequence[InputFile]) -> str:
    """Return the SHA-256 of a file, or of those of several files."""
    if len(sources) == 1:
        return sources[0].sha256
    return hashlib.sha256("".join(source.sha256 for source in sources).encode()).hexdigest()


def name_of(sources: Sequence[InputFile]) -> str:
    """Return the first file, and how many more there are, for messages."""
    more = len(sources) - 1
    return sources[0].file + (f" and {more} more file{'s' * (more > 1)}" if more else "")


@failures_as_bad_input("reading its header failed", _REPORT)
def describe_one(job: HeaderJob) -> Header:
    """Read what a file of sweeps contains."""
    path = Path(job.source.file)
    with read_errors_as_bad_input(path, "radar volume"):
        return Header.of(read_raw(path))


@failures_as_bad_input("gridding failed", _REPORT)
def grid_one(job: VolumeJob) -> Scan:
    """Grid a volume, unless an interrupted run already did."""
    paths = [Path(source.file) for source in job.sources]
    if not job.cache.exists():
        with read_errors_as_bad_input(paths[0], "radar volume"):
            made = grid_volume(paths, job.settings)
        save_gridded(made, job.cache)
    gridded = load_gridded(job.cache)
    site = RadarSite(**gridded.note["site"])
    if np.isnat(gridded.time) or not is_place(site):
        raise BadInput("no time, or no position of the radar", paths[0], "copy it again from its source")
    return Scan(gridded.time, site, job.cache, tuple(map(asdict, job.sources)))


@failures_as_bad_input("reading its header failed", _REPORT)
def describe_sequence(job: SequenceHeaderJob) -> SequenceHeader:
    """Read the header of a file of a gridded sequence."""
    path = Path(job.source.file)
    with read_errors_as_bad_input(path):
        return SequenceHeader.of(path, job.settings)


@failures_as_bad_input("finding its events failed", _REPORT)
def plan_one(job: PlanJob) -> Plan:
    """Find the pieces of a gridded sequence."""
    paths = [Path(source.file) for source in job.sources]
    with read_errors_as_bad_input(paths[0]):
        source = open_source(paths, job.settings)
        pieces, dropped = plan(source, job.settings)
    dropped_from = {reason: [str(path) for path in files] for reason, files in source.dropped_from.items()}
    heights, drops = heights_of(source, job.settings), Counter(dict(dropped))
    return Plan(job.sources, tuple(pieces), source.has_rain, drops, source.measured, heights, dropped_from)


@failures_as_bad_input("writing the event failed", _REPORT)
def write_one(job: EventJob) -> int:
    """Write one event with its note and optional picture; return its number."""
    event = job.read()
    note = {**job.provenance(), **_note(event, job.settings.step_minutes, job.spacing_km)}
    note["source"] = source_of(note)  # with the times and the extent, all that the groups of `data shard` need
    if job.pictures:
        with failures_as_bad_input("its picture can't be drawn", "ingest it without --pictures"):
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
