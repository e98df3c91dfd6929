"""Streaming of one shard: keep the requested slices, verify the SHA-256 of all bytes, retry failures."""

import contextlib
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from polarcast.data.secrets import redacted
from polarcast.data.shards.health import BadShard
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.source import end_command

Halves = npt.NDArray[np.float16]
Slices = Sequence[tuple[int, int]]
"""(offset in bytes, number of half-precision values), ascending, without overlap."""
_CHUNK = 2**20
_WARN_AFTER_SECONDS = 10.0
_POLL_SECONDS = 0.5
_log = logging.getLogger("polarcast")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """Retries and timeouts for a source."""

    retries: int = 4
    """Attempts after the first; the pause doubles with each."""
    first_pause_seconds: float = 0.5
    """Pause before the first retry."""
    stall_seconds: float = 60.0
    """Time without data after which a stream is closed and retried."""


class _SourceFailed(Exception):
    """Failure of the source itself, which is retried, as opposed to failures in using its bytes."""


class Fetch:
    """Fetches one shard in a thread, while another thread watches for stalls."""

    def __init__(self, manifest: Manifest, shard: int, patience: Patience) -> None:
        """Prepare to fetch a shard; open nothing yet."""
        self._manifest, self._shard, self._patience = manifest, shard, patience
        self.url = manifest.source.shown_url(manifest.shards[shard].name)
        self._stream: BinaryIO | None = None
        self._last_byte_at, self._warned = time.monotonic(), False

    def watched(self, result: Future[Result]) -> Result:
        """Wait for the result of the fetching thread; warn about a stalled source, then restart it."""
        while True:
            try:
                return result.result(_POLL_SECONDS)
            except NotYet:
                if result.running():
                    self._watch()

    def _watch(self) -> None:
        silent = time.monotonic() - self._last_byte_at
        if silent > self._patience.stall_seconds:
            _log.warning("polarcast: %s: no data for %.0f s, trying again", self.url, silent)
            self._last_byte_at = time.monotonic()
            end_command(self._stream)
        elif silent > _WARN_AFTER_SECONDS and not self._warned:
            self._warned = True
            _log.warning("polarcast: %s: no data for %.0f s, waiting", self.url, silent)

    def slices(self, wanted: Slices) -> dict[int, Halves]:
        """Fetch the values of each slice, by its offset.

        Raises:
            BadShard: Every attempt failed; the message gives the reason of the last one.
        """
        return self._try(lambda: self._slices(wanted))

    def save(self, path: Path) -> None:
        """Write all bytes to a file that only this user can read, and sync it to disk; don't follow a link.

        Raises:
            BadShard: Every attempt failed.
            OSError: The file can't be written.
        """
        with ThreadPoolExecutor(1) as pool:
            self.watched(pool.submit(self._try, lambda: self._save(path)))

    def _try(self, attempt: Callable[[], Result]) -> Result:
        for number in range(self._patience.retries + 1):
            self._last_byte_at = time.monotonic()
            try:
                return attempt()
            except _SourceFailed as error:
                reason = str(error)
            if number < self._patience.retries:
                time.sleep(self._patience.first_pause_seconds * 2**number)
        attempts = f"{self._patience.retries + 1} attempts" if self._patience.retries else "one attempt"
        raise BadShard(self._shard, f"can't be read: {reason} ({attempts})", self.url)

    def _slices(self, wanted: Slices) -> dict[int, Halves]:
        kept: dict[int, Halves] = {}
        ahead = deque(wanted)
        for at, piece in self._pieces():
            end = at + len(piece)
            while ahead and ahead[0][0] < end:
                offset, values = ahead[0]
                # Allocated when its first byte is here: the claims of a manifest alone take no memory.
                if offset not in kept:
                    kept[offset] = np.empty(values, np.float16)
                view = kept[offset].data.cast("B")
                first, last = max(offset, at), min(offset + len(view), end)
                view[first - offset : last - offset] = piece[first - at : last - at]
                if offset + len(view) > end:
                    break
                ahead.popleft()
        return kept

    def _save(self, path: Path) -> None:
        with os.fdopen(open_own(path, os.O_WRONLY | os.O_TRUNC), "wb") as out:
            for _, piece in self._pieces():
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield all bytes in order. Raises _SourceFailed if the stream fails, or its size or SHA-256 is wrong."""
        shard = self._manifest.shards[self._shard]
        digest, at = hashlib.sha256(), 0
        try:
            self._stream = self._manifest.source.open(shard.name)
            with contextlib.closing(self._stream):
                while at <= shard.bytes and (piece := self._stream.read(_CHUNK)):
                    self._last_byte_at = time.monotonic()
                    digest.update(piece)
                    yield at, piece
                    at += len(piece)
        except OSError as error:
            raise _SourceFailed(redacted(str(error))) from None
        if at != shard.bytes:
            raise _SourceFailed(f"{at} bytes, expected {shard.bytes} from the manifest")
        if digest.hexdigest() != shard.sha256:
            raise _SourceFailed("its SHA-256 differs from the manifest's")


def open_own(path: Path, flags: int) -> int:
    """Open or create a file, readable by this user only when created, and return its descriptor; don't follow a link.

    Raises:
        OSError: It can't be opened, or is a link.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
