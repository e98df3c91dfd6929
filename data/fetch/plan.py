"""What a call will fetch: number of files, bytes, time, and whether it fits the disk."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.fetch.manifest import FetchManifest
from polarcast.data.fetch.networks import RemoteFile
from polarcast.data.fetch.store import ObjectStore, RequestFailed
from polarcast.data.fetch.transfer import part_of

_PROBE_BYTES = 4 * 2**20
_PROBE_S = 5.0


@dataclass(frozen=True)
class FetchPlan:
    """What is to be fetched.

    Attributes:
        files: All files of the call.
        known: Number of those that are there already, by name and size.
        missing_bytes: Bytes that are still to be fetched.
        rate: Bytes per second of one connection; None if it is not known.
    """

    files: tuple[RemoteFile, ...]
    known: int
    missing_bytes: int
    rate: float | None = None

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def seconds(self, workers: int) -> tuple[float, float] | None:
        """Return the shortest and the longest time: with `workers` connections of that rate each, and with one."""
        return None if not self.rate else (self.missing_bytes / self.rate / workers, self.missing_bytes / self.rate)

    def as_record(self, workers: int) -> dict[str, Any]:
        """Return the record for `--json`."""
        seconds = self.seconds(workers)
        return {
            "files": len(self.files), "bytes": self.total_bytes, "known": self.known,
            "missing_bytes": self.missing_bytes,
            "bytes_per_second": None if self.rate is None else round(self.rate),
            "seconds": None if seconds is None else [round(s, 1) for s in seconds],
        }  # fmt: skip


def place_of(out: Path, station: str, remote: RemoteFile) -> Path:
    """Return where a volume goes: all volumes of a station in one folder, as `data ingest` takes them."""
    return out / station / remote.name


def plan_of(out: Path, station: str, files: Sequence[RemoteFile], rate: float | None = None) -> FetchPlan:
    """Return the plan for files, of which some may be there."""
    noted, known, missing = FetchManifest(out).files, 0, 0
    for remote in files:
        target = place_of(out, station, remote)
        record = noted.get(f"{station}/{remote.name}")
        is_same = record is None or record.etag == remote.etag
        if is_same and target.is_file() and target.stat().st_size == remote.size:
            known += 1
            continue
        part = part_of(target, remote.etag)
        missing += remote.size - (min(part.stat().st_size, remote.size) if part.is_file() else 0)
    return FetchPlan(tuple(files), known, missing, rate)


def check_space(out: Path, plan: FetchPlan) -> None:
    """Raise BadInput if the disk of a folder has too little space for a plan."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if plan.missing_bytes > free:
        what = f"{in_words(plan.missing_bytes)} are to be fetched, and {in_words(free)} are free"
        raise BadInput(what, out, "choose another disk, a shorter period, or fewer --storms")


def measured_rate(store: ObjectStore, remote: RemoteFile) -> float | None:
    """Return the bytes per second of one connection, by reading the begin of an object, which is not kept."""
    began, count = time.monotonic(), 0
    try:
        with store.body(remote.key, remote.etag) as body:
            while count < _PROBE_BYTES and time.monotonic() - began < _PROBE_S and (block := body.read()):
                count += len(block)
    except RequestFailed:
        return None
    return count / max(time.monotonic() - began, 1e-6) if count else None


def in_words(size: float) -> str:
    """Return a number of bytes as MB or GB of powers of ten."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
