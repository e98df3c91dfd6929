"""Verification of a folder's shards against the manifest, with a cache of verified files."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import open_regular, read_json, write_text
from polarcast.data.shards.manifest import Manifest, Shard
from polarcast.data.user_cache import own_cache

_FIX = "copy it again, or shard the archive again"

Identity = tuple[int, int, int, int]
"""Inode, size, and times of modification and of change of a file: equal while it is the same file, unchanged."""


SUMS, SIZES = "sums", "sizes"
"""What is verified: SHA-256 and size, or the size only."""


class BadShard(BadInput):
    """A shard that can't be read, or differs from the manifest."""

    def __init__(self, shard: int, what: str, where: object) -> None:
        super().__init__(what, where, _FIX)
        self.shard = shard


class ChangedShard(BadShard):
    """A shard that was intact when this process started to read it, and no longer is."""


def identity(status: os.stat_result) -> Identity:
    """Return what distinguishes a file from others, and from itself after a change."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def problem_of(path: Path, shard: Shard, sums: bool) -> str | None:
    """Return the problem of a shard's file, or None; check its size and, with `sums`, its SHA-256."""
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            return "not a regular file"
        if before.st_size != shard.bytes:
            return f"{before.st_size} bytes, expected {shard.bytes} from the manifest"
        if sums and file_sha256(path) != shard.sha256:
            return "its SHA-256 differs from the manifest's"
        if sums and identity(path.stat()) != identity(before):
            return "changed while it was checked"
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
    """Cache of files with a verified SHA-256, by path and identity; stored in the user's cache."""

    def __init__(self) -> None:
        """Load the results of earlier runs."""
        folder = own_cache()
        self._file = folder / "verified.json" if folder else None
        self._old, self._new = self._load(), dict[str, list[object]]()

    def contains(self, path: Path, shard: Shard) -> bool:
        """Whether this file, unchanged, was verified to have the shard's SHA-256."""
        with suppress(OSError):
            return self._old.get(str(path.resolve())) == _stamp(path, shard)
        return False

    def add(self, path: Path, shard: Shard) -> None:
        """Add a verified file."""
        self._new[str(path.resolve())] = _stamp(path, shard)

    def save(self) -> None:
        """Write new entries; ignore a cache that can't be written."""
        if not self._new or not self._file:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps({**self._load(), **self._new}))

    def _load(self) -> dict[str, list[object]]:
        return read_json(self._file) if self._file else {}


def _stamp(path: Path, shard: Shard) -> list[object]:
    return [shard.sha256, *identity(path.stat())]
