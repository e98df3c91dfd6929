"""One shard as a stream: what is wanted of it is kept, all bytes are summed, failures are tried again."""

import contextlib
import hashlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from polarcast.data.shards.health import BadShard
from polarcast.data.shards.manifest import Manifest

Halves = npt.NDArray[np.float16]
Slices = Sequence[tuple[int, int]]
"""(offset in bytes, number of half-precision values), ascending, without overlap."""
_CHUNK = 2**20
_TELL_AFTER_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 0.5
_log = logging.getLogger("polarcast")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long a source may fail or be silent."""

    retries: int = 4
    """Further attempts after the first; the pause before each is twice the one before."""
    first_pause_seconds: float = 0.5
    stall_seconds: float = 60.0
    """Silence after which a stream is given up and tried again."""


class _SourceFailed(Exception):
    """The source, as opposed to what is done with its bytes."""


class Fetch:
    """Brings one shard, in a thread that another one watches."""

    def __init__(self, manifest: Manifest, shard: int, patience: Patience) -> None:
        """Nothing is opened yet."""
        self._manifest, self._shard, self._patience = manifest, shard, patience
        self.url = manifest.source.url(manifest.shards[shard].name)
        self._stream: BinaryIO | None = None
        self._heard, self._told = time.monotonic(), False

    def watched(self, result: Future[Result]) -> Result:
        """Wait for what another thread makes of this shard; a source that is silent is named, then tried again."""
        while True:
            try:
                return result.result(_LOOK_EVERY_SECONDS)
            except NotYet:
                if result.running():
                    self._watch()

    def _watch(self) -> None:
        silent = time.monotonic() - self._heard
        if silent > self._patience.stall_seconds:
            _log.warning("polarcast: %s: no byte for %.0f s, trying again", self.url, silent)
            self._heard = time.monotonic()
            if (process := getattr(self._stream, "proc", None)) is not None:
                _kill_tree(process.pid)
        elif silent > _TELL_AFTER_SECONDS and not self._told:
            self._told = True
            _log.warning("polarcast: %s: no byte for %.0f s, waiting", self.url, silent)

    def slices(self, wanted: Slices) -> dict[int, Halves]:
        """The values of each slice, by its offset.

        Raises:
            BadShard: every attempt failed; it tells how the last one did.
        """
        return self._try(lambda: self._slices(wanted))

    def save(self, path: Path) -> None:
        """Write all bytes to a file and bring them to the disk.

        Raises:
            BadShard: every attempt failed.
            OSError: the file can't be written.
        """
        with ThreadPoolExecutor(1) as pool:
            self.watched(pool.submit(self._try, lambda: self._save(path)))

    def _try(self, attempt: Callable[[], Result]) -> Result:
        for number in range(self._patience.retries + 1):
            self._heard = time.monotonic()
            try:
                return attempt()
            except _SourceFailed as error:
                reason = str(error)
            if number < self._patience.retries:
                time.sleep(self._patience.first_pause_seconds * 2**number)
        tried = f"{self._patience.retries + 1} attempts" if self._patience.retries else "one attempt"
        raise BadShard(self._shard, f"can't be read: {reason} ({tried})", self.url)

    def _slices(self, wanted: Slices) -> dict[int, Halves]:
        kept = {offset: np.empty(values, np.float16) for offset, values in wanted}
        views = [(offset, of.data.cast("B")) for offset, of in kept.items()]
        for at, piece in self._pieces():
            end = at + len(piece)
            while views and views[0][0] < end:
                offset, view = views[0]
                first = max(offset, at)
                last = min(offset + len(view), end)
                view[first - offset : last - offset] = piece[first - at : last - at]
                if offset + len(view) > end:
                    break
                views.pop(0)
        return kept

    def _save(self, path: Path) -> None:
        with path.open("wb") as out:
            for _, piece in self._pieces():
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """All bytes in order. Raises _SourceFailed when they stop, or turn out at the end not to be the shard's."""
        shard = self._manifest.shards[self._shard]
        digest, at = hashlib.sha256(), 0
        try:
            self._stream = self._manifest.source.open(shard.name)
            with contextlib.closing(self._stream):
                while at <= shard.bytes and (piece := self._stream.read(_CHUNK)):
                    self._heard = time.monotonic()
                    digest.update(piece)
                    yield at, piece
                    at += len(piece)
        except OSError as error:
            raise _SourceFailed(str(error)) from None
        if at != shard.bytes:
            raise _SourceFailed(f"{at} bytes, the manifest says {shard.bytes}")
        if digest.hexdigest() != shard.sha256:
            raise _SourceFailed("its SHA-256 differs from the manifest's")


def _kill_tree(pid: int) -> None:
    """End a process and its children: a shell's death alone would leave a silent download behind."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            _kill_tree(int(child))
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
