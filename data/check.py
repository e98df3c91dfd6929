"""Is a folder of shards what its manifest says?"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from polarcast.data.manifest import Manifest, Shard
from polarcast.data.reader import MappedReader, only_test
from polarcast.data.shards import file_sha256


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: where, whether it holds, and what was found."""

    where: str
    ok: bool
    found: str

    def as_row(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


def check(manifest: Manifest, on_shard: Callable[[int], None] | None = None) -> list[Finding]:
    """Check sizes, sums, splits and values of all shards.

    Args:
        manifest: The manifest to hold the shards against.
        on_shard: Called with the number of shards done.

    Returns:
        A finding for each shard, one for the splits and one for the values.
    """
    findings = []
    for index, shard in enumerate(manifest.shards):
        findings.append(_check_shard(manifest.folder, shard))
        if on_shard:
            on_shard(index + 1)
    findings.append(_check_splits(manifest))
    if all(f.ok for f in findings):
        findings.append(_check_values(manifest))
    return findings


def _check_shard(folder: Path, shard: Shard) -> Finding:
    path = folder / shard.name
    if not path.is_file():
        return Finding(shard.name, False, "missing")
    size = path.stat().st_size
    if size != shard.bytes:
        return Finding(shard.name, False, f"{size} bytes, the manifest says {shard.bytes}")
    if file_sha256(path) != shard.sha256:
        return Finding(shard.name, False, "its SHA-256 differs from the manifest's")
    return Finding(shard.name, True, f"{len(shard.samples)} frames, {size / 1e6:.1f} MB")


def _check_splits(manifest: Manifest) -> Finding:
    for (one, events), (other, others) in combinations(manifest.splits.items(), 2):
        if shared := sorted(set(events) & set(others)):
            return Finding("splits", False, f"event {shared[0]:03d} is both in {one} and in {other}")
    sizes = ", ".join(f"{name} {len(events)}" for name, events in manifest.splits.items())
    return Finding("splits", True, f"events: {sizes}")


def _check_values(manifest: Manifest) -> Finding:
    whole = MappedReader(only_test(manifest), "test", variables=manifest.variables, heights_km=manifest.heights_km)
    for index in range(len(whole)):
        batch = whole.read([index])
        where = f"event {int(batch.event):03d} frame {int(batch.frame):03d}"
        if not (np.isfinite(batch.radar.numpy()).all() and np.isfinite(batch.rain_rate.numpy()).all()):
            return Finding("values", False, f"{where} is not finite")
        if (batch.rain_rate < 0).any():
            return Finding("values", False, f"{where} has negative rain")
    return Finding("values", True, f"{len(whole)} frames, all finite, rain ≥ 0")
