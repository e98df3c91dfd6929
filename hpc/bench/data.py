"""Make or open the shards of a suite."""

from dataclasses import dataclass, field
from pathlib import Path

from polarcast.data.archive import open_archive
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.utils.progress import ProgressBoard


@dataclass
class SynthSpec:
    """A synthetic archive to make."""

    events: int = 240
    """Number of events."""
    frames: int | None = None
    """Frames of each event; drawn from the real archive's lengths by default."""
    size: int = 256
    """Pixels a side."""
    preset: str = "meiyu"
    """Climate of the storms."""
    seed: int = 0
    """Seed of the archive."""


@dataclass
class DataSpec:
    """Where a suite's shards come from."""

    archive: str | None = None
    """Folder of an NJU-CPOL tree; without one a synthetic archive is made."""
    synth: SynthSpec = field(default_factory=SynthSpec)
    """The synthetic archive."""
    split: str = "0.6/0.15/0.25"
    """Rule that assigns events to train, validation and test."""


def prepare_data(spec: DataSpec, archive_folder: Path, shards: Path, workers: int, board: ProgressBoard) -> Manifest:
    """Shard the archive of a suite into `shards`; synthesize it into `archive_folder` first where none is given.

    Shards that exist are opened as they are.
    """
    if (shards / NAME).is_file():
        return read_manifest(shards)
    if spec.archive is None:
        synth = spec.synth
        with board.stage("synthesize", "storms", synth.events) as done:
            write_archive(
                archive_folder, synth.events, size=synth.size, seed=synth.seed, preset=synth.preset,
                frames=synth.frames, workers=workers, on_event=done,
            )  # fmt: skip
    archive = open_archive(Path(spec.archive) if spec.archive else archive_folder)
    with board.stage("shard", "events", len(archive.frames)) as done:
        return write_shards(archive, shards, split=spec.split, workers=workers, on_event=done)
