"""Frames from local shards, copied directly into the batch.

If the required data fits a memory budget, files are mapped, which is as fast as memory. Larger archives are read from
files instead. That is a quarter slower, but mapped pages count as resident memory and would grow without bound.
"""

import mmap
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from io import FileIO
from typing import Generic, TypeVar

import numpy as np

from polarcast.data.loading.buffers import Halves
from polarcast.data.shards.health import BadShard
from polarcast.data.shards.manifest import Manifest

_OPEN_FILES = 256
_SHARE_OF_MEMORY = 16
Opened = TypeVar("Opened")


def default_budget() -> int:
    """Default limit on mapped shards per process in bytes: a sixteenth of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _SHARE_OF_MEMORY


class _Files(ABC, Generic[Opened]):
    """Files opened on first use, after a size check against the manifest; at most `_OPEN_FILES` at a time."""

    def __init__(self, manifest: Manifest) -> None:
        """Open nothing yet. Raises BadInput if the shards are not in a local folder."""
        self._manifest, self._folder = manifest, manifest.folder
        self._files: OrderedDict[int, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def expect(self, shards: set[int]) -> None:
        """Do nothing: local files need no preparation."""

    @abstractmethod
    def _opened(self, file: FileIO) -> Opened:
        """Return the object to cache for an open file."""

    def _file(self, shard: int) -> Opened:
        with self._lock:
            if shard not in self._files:
                self._files[shard] = self._opened(self._open(shard))
                if len(self._files) > _OPEN_FILES:
                    # Threads that still read from it hold a reference, which keeps it open.
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(shard)
            return self._files[shard]

    def _open(self, shard: int) -> FileIO:
        try:
            file = FileIO(str(self._path(shard)))
        except OSError as error:
            raise BadShard(shard, f"can't be opened ({error.strerror})", self._path(shard)) from None
        self._check_size(shard, file)
        return file

    def _check_size(self, shard: int, file: FileIO) -> None:
        size, expected = os.fstat(file.fileno()).st_size, self._manifest.shards[shard].bytes
        if size != expected:
            raise BadShard(shard, f"{size} bytes, expected {expected} from the manifest", self._path(shard))

    def _path(self, shard: int) -> os.PathLike[str]:
        return self._folder / self._manifest.shards[shard].name


class MappedFrames(_Files[tuple[FileIO, Halves]]):
    """Frame source that copies from memory maps."""

    def copy(self, shard: int, offset: int, stride: int, out: Halves) -> None:
        """Fill the rows of `out` (frames, values), stored `stride` bytes apart from `offset`. Raises BadShard."""
        file, stored = self._file(shard)
        # Reading a map beyond the end of a truncated file would kill the process with a signal.
        self._check_size(shard, file)
        frames, values = out.shape
        source = stored[offset // 2 : (offset + (frames - 1) * stride) // 2 + values]
        if 2 * len(source) != (frames - 1) * stride + 2 * values:
            raise BadShard(shard, f"ends before {offset + (frames - 1) * stride + 2 * values} bytes", self._path(shard))
        np.copyto(out, np.lib.stride_tricks.as_strided(source, out.shape, (stride, 2), writeable=False))

    def _opened(self, file: FileIO) -> tuple[FileIO, Halves]:
        return file, np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float16)


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
                raise BadShard(shard, f"can't be read ({error.strerror})", self._path(shard)) from None
            if not read:
                raise BadShard(shard, f"ends at {offset + done} bytes", self._path(shard))
            done += read
