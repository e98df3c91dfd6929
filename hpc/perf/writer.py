"""Speed of packing an archive into shards, compared with plain `tar` of the same bytes."""

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polarcast.data.archive import HEIGHTS_KM, VARIABLES, Archive, open_archive, write_event
from polarcast.data.shards.write import write_shards
from polarcast.hpc.perf.measure import Measured, Run, interleaved, machine, ratio

SHARDS = "polarcast data shard, {} workers"
TAR, SYNCED = "tar of the same bytes", "tar, brought to the disk as shards are"


@dataclass(frozen=True)
class WriterSpec:
    """Size of an archive with all variables and heights, and rain."""

    events: int = 24
    frames_per_event: int = 40
    size: int = 256


def measure_writer(
    folder: Path, spec: WriterSpec, rounds: int, workers: int, on_round: Callable[[int], None] | None = None
) -> Measured:
    """Time both in turn, with the input in the page cache.

    Args:
        folder: Folder for the data; the caller keeps or deletes it.
        spec: Sizes.
        rounds: Measured rounds, after one warm-up round.
        workers: Number of processes that pack.
        on_round: Called with the number of rounds done.
    """
    archive = _make(folder, spec)
    members = _extract(archive, folder, workers)
    name = SHARDS.format(workers)
    contenders = {
        name: _shards(archive, folder, workers),
        TAR: _tar(members, folder, synced=False),
        SYNCED: _tar(members, folder, synced=True),
    }
    rows = interleaved(contenders, rounds, "GB/s", on_round)
    return Measured(
        "writer", machine(), rows, {f"{name} / {other}": ratio(rows, name, other) for other in (TAR, SYNCED)}
    )


def _make(folder: Path, spec: WriterSpec) -> Archive:
    """Write an archive with echo in a third of the pixels, as in rain."""
    rng = np.random.default_rng(0)
    shape = (spec.frames_per_event, len(VARIABLES), len(HEIGHTS_KM), spec.size, spec.size)
    for event in range(spec.events):
        radar = np.where(rng.random(shape[-2:]) < 1 / 3, rng.random(shape, dtype=np.float32) + 1, 0)
        write_event(folder / "archive", event, radar, np.maximum(radar[:, 0, 0] - 1, 0))
    return open_archive(folder / "archive")


def _extract(archive: Archive, folder: Path, workers: int) -> Path:
    manifest = write_shards(archive, folder / "first", workers=workers)
    for shard in manifest.shards:
        with tarfile.open(manifest.folder / shard.name) as tar:
            tar.extractall(folder / "members", filter="data")
    shutil.rmtree(manifest.folder)
    return folder / "members"


def _shards(archive: Archive, folder: Path, workers: int) -> Run:
    out = folder / "shards"

    def run() -> float:
        shutil.rmtree(out, ignore_errors=True)
        manifest = write_shards(archive, out, workers=workers)
        return sum(shard.bytes for shard in manifest.shards) / 1e9

    return run


def _tar(members: Path, folder: Path, synced: bool) -> Run:
    out = folder / "plain.tar"

    def run() -> float:
        out.unlink(missing_ok=True)
        subprocess.run(["tar", "--create", f"--file={out}", f"--directory={members}", "."], check=True)
        if synced:
            subprocess.run(["sync", str(out)], check=True)
        return out.stat().st_size / 1e9

    return run
