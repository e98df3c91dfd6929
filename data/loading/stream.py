"""Frames from streamed shards: the requested fields are kept in memory, and the next shards are loaded ahead."""

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from polarcast.data.loading.buffers import Halves
from polarcast.data.loading.fields import Fields
from polarcast.data.loading.windows import Windows
from polarcast.data.shards.fetch import Fetch, Patience, Slices
from polarcast.data.shards.health import BadShard, ChangedShard
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import OBSERVED, RADAR, RAIN

_AT_ONCE = 4
_SPARE = 2
"""Number of unannounced shards kept; validation, which reads shards in order, does not announce them."""


@dataclass
class _Load:
    fetch: Fetch
    values: Future[dict[int, Halves]]


class StreamedFrames:
    """Frame source that keeps the requested fields of the shards announced with `expect`."""

    def __init__(self, manifest: Manifest, fields: Fields, windows: Windows, patience: Patience) -> None:
        """Start no stream yet."""
        self._manifest, self._fields, self._windows = manifest, fields, windows
        self._patience = patience
        self._loads: dict[int, _Load] = {}
        self._expected: set[int] = set()
        self._intact: set[int] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="stream")

    def expect(self, shards: set[int]) -> None:
        """Start loading these shards unless already loaded, and drop all others."""
        with self._lock:
            self._expected = shards
            for shard in set(self._loads) - shards:
                self._loads.pop(shard).values.cancel()
            for shard in sorted(shards - set(self._loads)):
                self._start(shard)

    def watch(self, verified_at: float, sums: bool) -> None:
        """Do nothing: every stream is verified."""

    def changed(self) -> dict[int, str]:
        """Return nothing: every stream is verified."""
        return {}

    def copy(self, shard: int, offset: int, stride: int, out: Halves) -> None:
        """Wait for the shard, then fill the rows of `out` (frames, values), `stride` bytes apart from `offset`.

        Raises:
            BadShard: The shard can't be read.
        """
        stored = self._values(shard)
        for number, row in enumerate(out):
            np.copyto(row, stored[offset + number * stride][: len(row)])

    def _values(self, shard: int) -> dict[int, Halves]:
        while True:
            with self._lock:
                load = self._loads.get(shard) or self._start(shard)
            try:
                values = load.fetch.watched(load.values)
                self._intact.add(shard)
                return values
            except BadShard as error:
                raise (ChangedShard if shard in self._intact else BadShard)(shard, error.what, error.where) from None
            except CancelledError:
                # It was dropped before its load started; request it again.
                continue

    def _start(self, shard: int) -> _Load:
        spare = [s for s in self._loads if s not in self._expected]
        for old in spare[: max(0, len(spare) + 1 - _SPARE)]:
            self._loads.pop(old).values.cancel()
        fetch = Fetch(self._manifest, shard, self._patience)
        self._loads[shard] = _Load(fetch, self._pool.submit(fetch.slices, self._slices(shard)))
        return self._loads[shard]

    def _slices(self, shard: int) -> Slices:
        rows = self._windows.rows[self._windows.rows[:, 0] == shard]
        frames = rows[:, 1 + RADAR].tolist()
        runs = (*self._fields.runs, *self._fields.donor_runs, *self._fields.future_runs)
        slices = [(radar + 2 * source, values) for radar in frames for source, _, values in runs]
        if self._fields.rain:
            slices += [(rain, self._fields.pixels) for rain in rows[:, 1 + RAIN].tolist()]
        masks = [at for at in rows[:, 1 + OBSERVED].tolist() if at >= 0]
        slices += [(at + 2 * source, values) for at in masks for source, _, values in self._fields.mask_runs]
        # Of runs with the same offset, keep the last, which is the longest and contains the others.
        return list(dict(sorted(slices)).items())
