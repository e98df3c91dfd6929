"""Verification of a folder's shards against the manifest, with a cache of verified files."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import write_text
from polarcast.data.shards.manifest import Manifest, Shard

_FIX = "copy it again, or shard the archive again"


class BadShard(BadInput):
    """A shard that can't be read, or differs from the manifest."""

    def __init__(self, shard: int, what: str, where: object) -> None:
        super().__init__(what, where, _FIX)
        self.shard = shard


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def problem_of(path: Path, shard: Shard, sums: bool) -> str | None:
    """Return the problem of a shard's file, or None; check its size and, with `sums`, its SHA-256."""
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{size} bytes, expected {shard.bytes} from the manifest"
        if sums and file_sha256(path) != shard.sha256:
            return "its SHA-256 differs from the manifest's"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None


def bad_shards(
    manifest: Manifest, chosen: Iterable[int], *, sums: bool, on_shard: Callable[[int], None] | None = None
) -> dict[int, str]:
    """Check some shards and return their problems by shard number.

    Args:
        manifest: Manifest of the shards, which are in a local folder.
        chosen: Numbers of the shards to check.
        sums: Whether to verify the SHA-256; a verified file is not read again until it changes.
        on_shard: Called with the number of shards done.
    """
    cache = VerifiedFiles()
    problems: dict[int, str] = {}
    for done, index in enumerate(chosen, 1):
        path, shard = manifest.folder / manifest.shards[index].name, manifest.shards[index]
        unverified = sums and not cache.contains(path, shard)
        problem = problem_of(path, shard, unverified)
        if problem:
            problems[index] = problem
        elif unverified:
            cache.add(path, shard)
        if on_shard:
            on_shard(done)
    cache.save()
    return problems


class VerifiedFiles:
    """Cache of files with a verified SHA-256, by path, size and modification time; stored in the user's cache."""

    def __init__(self) -> None:
        """Load the results of earlier runs."""
        self._file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polarcast" / "right.json"
        self._old, self._new = self._load(), dict[str, list[object]]()

    def contains(self, path: Path, shard: Shard) -> bool:
        """Whether this file, unchanged, was verified to have the shard's SHA-256."""
        return path.is_file() and self._old.get(str(path.resolve())) == _stamp(path, shard)

    def add(self, path: Path, shard: Shard) -> None:
        """Add a verified file."""
        self._new[str(path.resolve())] = _stamp(path, shard)

    def save(self) -> None:
        """Write new entries; ignore a cache that can't be written."""
        if not self._new:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps({**self._load(), **self._new}))
        except OSError:
            pass

    def _load(self) -> dict[str, list[object]]:
        try:
            return dict(json.loads(self._file.read_text("utf-8")))
        except (OSError, ValueError):
            return {}


def _stamp(path: Path, shard: Shard) -> list[object]:
    status = path.stat()
    return [shard.sha256, status.st_size, status.st_mtime_ns, status.st_ino]
