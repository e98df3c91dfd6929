"""Make or open the shards of a suite."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.bench.fetched import FetchSpec, IngestSpec, fetched_archive
from polarcast.hpc.utils.progress import ProgressBoard


@dataclass
class SynthSpec:
    """Settings of a synthetic archive."""

    events: int = 240
    """Number of events."""
    frames: int | None = None
    """Frames per event; by default drawn from the lengths of the real archive's events."""
    size: int = 256
    """Pixels per side."""
    preset: str = "meiyu"
    """Preset: climate of the storms."""
    seed: int = 0
    """Seed of the archive."""


@dataclass
class DataSpec:
    """Source of a suite's shards."""

    archive: str | None = None
    """Folder in the layout of NJU-CPOL; without one and without `fetch`, a synthetic archive is generated."""
    synth: SynthSpec = field(default_factory=SynthSpec)
    """Settings of the synthetic archive."""
    fetch: FetchSpec | None = None
    """Volumes to fetch from an open archive."""
    ingest: IngestSpec | None = None
    """How to ingest the fetched volumes."""
    split: str = "0.6/0.15/0.25"
    """Rule that assigns events to train, validation and test."""

    @property
    def is_synthetic(self) -> bool:
        """Whether the archive is generated."""
        return self.archive is None and self.fetch is None

    def as_record(self) -> dict[str, Any]:
        """Return the settings as plain values; without `fetch`, as versions that could not fetch wrote them."""
        later = ("fetch", "ingest")
        return {key: value for key, value in asdict(self).items() if key not in later or value is not None}


def check_sources(content: Any, path: Path) -> None:
    """Check that the data of a suite or space have one source.

    Args:
        content: Keys and values of the file, without defaults.
        path: The file.

    Raises:
        BadInput: Two of archive, fetch and synth are given, or ingest without fetch.
    """
    given, where = content.get("data") or {}, f"{path}, data"
    sources = [key for key in ("archive", "fetch", "synth") if given.get(key) is not None]
    if len(sources) > 1:
        raise BadInput(f"{sources[0]} and {sources[1]} exclude each other", where, "remove one of them")
    if given.get("ingest") is not None and "fetch" not in sources:
        raise BadInput("ingest needs fetch", f"{where}.ingest", "add fetch, or remove ingest")


def prepare_data(
    spec: DataSpec, archive_folder: Path, shards: Path, workers: int, board: ProgressBoard, raw: Path | None = None
) -> Manifest:
    """Open the shards of a suite, or write them from its archive.

    Without an archive in `spec`, one is fetched or generated in `archive_folder` first.

    Args:
        spec: Source of the shards.
        archive_folder: Folder for an archive that is made.
        shards: Folder of the shards.
        workers: Number of processes.
        board: Progress board.
        raw: Folder for volumes that are fetched; by default `raw` beside the archive.

    Raises:
        BadInput: The archive can't be made or read.
        WorkFailed: The network was lost while volumes were fetched.
    """
    if (shards / NAME).is_file():
        return read_manifest(shards)
    if spec.fetch is not None:
        raw = raw or archive_folder.with_name("raw")
        fetched_archive(spec.fetch, spec.ingest or IngestSpec(), raw, archive_folder, board)
    elif spec.archive is None:
        _synthesize(spec.synth, archive_folder, workers, board)
    archive = open_archive(Path(spec.archive) if spec.archive else archive_folder)
    with board.stage("shard", "events", len(archive.frames)) as done:
        return write_shards(archive, shards, split=spec.split, workers=workers, on_event=done)


def _synthesize(synth: SynthSpec, folder: Path, workers: int, board: ProgressBoard) -> None:
    with board.stage("synthesize", "storms", synth.events) as done:
        write_archive(
            folder, synth.events, size=synth.size, seed=synth.seed, preset=synth.preset, frames=synth.frames,
            workers=workers, on_event=done,
        )  # fmt: skip
