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
    """Folder in the layout of NJU-CPOL; without one, a synthetic archive is generated."""
    synth: SynthSpec = field(default_factory=SynthSpec)
    """Settings of the synthetic archive."""
    split: str = "0.6/0.15/0.25"
    """Rule that assigns events to train, validation and test."""


def prepare_data(spec: DataSpec, archive_folder: Path, shards: Path, workers: int, board: ProgressBoard) -> Manifest:
    """Open the shards of a suite, or write them from its archive.

    Without an archive in `spec`, a synthetic one is generated in `archive_folder` first.
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
