"""Frames from local shards, copied directly into the batch.

If the required data fits a memory budget, files are mapped, which is as fast as memory. Larger archives are read from
files instead. That is a quarter slower, but mapped pages count as resident memory and would grow without bound.
"""

import hashlib
import mmap
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from io import FileIO
from typing import Generic, TypeVar

import numpy as np

from polarcast.data.loading.buffers import Halves
from polarcast.data.shards.health import BadShard, ChangedShard, Identity, identity
from polarcast.data.shards.manifest import Manifest

_OPEN_FILES = 256
_SHARE_OF_MEMORY = 16
Opened = TypeVar("Opened")


def default_budget() -> int:
    """Default limit on mapped shards per process in bytes: a sixteenth of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _SHARE_OF_MEMORY


class _Files(ABC, Generic[Opened]):
    """Files opened on first use, after a check against the manifest; at most `_OPEN_FILES` at a time.

    Every read compares the open file with what it was when it was checked. A file that changed is checked again.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Open nothing yet. Raises BadInput if the shards are not in a local folder."""
        self._manifest, self._folder = manifest, manifest.folder
        self._files: OrderedDict[int, tuple[FileIO, Opened]] = OrderedDict()
        self._identities: dict[int, Identity] = {}
        self._verified_at: float | None = None
        self._sums = False
        self._lock = threading.Lock()

    def expect(self, shards: set[int]) -> None:
        """Do nothing: local files need no preparation."""

    def watch(self, verified_at: float, sums: bool) -> None:
        """Take the files as verified at a Unix time; with `sums`, verify the SHA-256 of those that change later."""
        self._verified_at, self._sums = verified_at, sums

    def changed(self) -> dict[int, str]:
        """Check open files that were replaced or changed; return the problems by shard number."""
        problems: dict[int, str] = {}
        with self._lock:
            for shard in list(self._files):
                try:
                    if not self._is_same(shard, self._path(shard)):
                        self._files[shard] = self._open(shard)
                except BadShard as error:
                    problems[shard] = error.what
        return problems

    @abstractmethod
    def _opened(self, file: FileIO) -> Opened:
        """Return the object to cache for an open file."""

    def _file(self, shard: int) -> Opened:
        """Return an open file, checked again if it changed since it was opened.

        Reading a map beyond the end of a truncated file would kill the process with a signal.
        """
        with self._lock:
            if shard not in self._files or not self._is_same(shard, self._files[shard][0].fileno()):
                self._files[shard] = self._open(shard)
                if len(self._files) > _OPEN_FILES:
                    # Threads that still read from it hold a reference, which keeps it open.
                    self._files.popitem(last=False)
            self._files.move_to_end(shard)
            return self._files[shard][1]

    def _is_same(self, shard: int, file: int | os.PathLike[str]) -> bool:
        try:
            return identity(os.stat(file)) == self._identities[shard]
        except OSError:
            return False

    def _open(self, shard: int) -> tuple[FileIO, Opened]:
        try:
            file = FileIO(str(self._path(shard)))
            self._check(shard, file)
        except OSError as error:
            raise self._bad(shard, f"can't be opened ({error.strerror})") from None
        return file, self._opened(file)

    def _check(self, shard: int, file: FileIO) -> None:
        """Check the size of a file, and its SHA-256 if it changed since it was verified. Raises BadShard."""
        expected, now = self._manifest.shards[shard], os.fstat(file.fileno())
        if now.st_size != expected.bytes:
            raise self._bad(shard, f"{now.st_size} bytes, expected {expected.bytes} from the manifest")
        if self._sums and self._is_changed(shard, now):
            if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
                raise self._bad(shard, "its SHA-256 differs from the manifest's")
            if identity(os.fstat(file.fileno())) != identity(now):
                raise self._bad(shard, "changed while it was checked")
        self._identities[shard] = identity(now)

    def _is_changed(self, shard: int, now: os.stat_result) -> bool:
        if shard in self._identities:
            return self._identities[shard] != identity(now)
        return self._verified_at is not None and max(now.st_mtime, now.st_ctime) >= self._verified_at

    def _bad(self, shard: int, what: str) -> BadShard:
        was_intact = self._verified_at is not None or shard in self._identities
        return (ChangedShard if was_intact else BadShard)(shard, what, self._path(shard))

    def _path(self, shard: int) -> os.PathLike[str]:
        return self._folder / self._manifest.shards[shard].name


class MappedFrames(_Files[Halves]):
    """Frame source that copies from memory maps."""

    def copy(self, shard: int, offset: int, stride: int, out: Halves) -> None:
        """Fill the rows of `out` (frames, values), stored `stride` bytes apart from `offset`. Raises BadShard."""
        stored = self._file(shard)
        frames, values = out.shape
        source = stored[offset // 2 : (offset + (frames - 1) * stride) // 2 + values]
        if 2 * len(source) != (frames - 1) * stride + 2 * values:
            raise self._bad(shard, f"ends before {offset + (frames - 1) * stride + 2 * values} bytes")
        np.copyto(out, np.lib.stride_tricks.as_strided(source, out.shape, (stride, 2), writeable=False))

    def _opened(self, file: FileIO) -> Halves:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float16)


class ReadFrames(_Files[FileIO]):
    """Frame source that reads from files."""

    def copy(self, shard: int, offset: int, stride: int, out: Halves) -> None:
        """Fill the rows of `out` (frames, values), stored `stride` bytes apart from `offset`. Raises BadShard."""
        file = self._file(shard)
        for number, row in enumerate(out):
            self._read(file, shard, offset + number * stride, row)

    def _opened(self, file: FileIO) -> FileIO:
        return file

    def _read(self, file: FileIO, shard: int, offset: int, row: Halves) -> None:
        view, done = row.data.cast("B"), 0
        while done < len(view):
            try:
                read = os.preadv(file.fileno(), [view[done:]], offset + done)
            except OSError as error:
                raise self._bad(shard, f"can't be read ({error.strerror})") from None
            if not read:
                raise self._bad(shard, f"ends at {offset + done} bytes")
            done += read
