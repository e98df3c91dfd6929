"""Windows of frames → batches, wherever the frames come from."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.loading.buffers import Halves, Recycler
from polarcast.data.loading.fields import Fields, Run, choose_fields
from polarcast.data.loading.local import MappedFrames, ReadFrames, default_budget
from polarcast.data.loading.permute import Indices
from polarcast.data.loading.stream import StreamedFrames
from polarcast.data.loading.windows import Windows, windows_of
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import Table

_WORTH_THREADS = 2**22
"""Bytes of a batch below which handing work to threads costs more than it saves."""


class FrameSource(Protocol):
    """Where stored frames are read from."""

    def expect(self, shards: set[int]) -> None:
        """These shards, and no others, are about to be read."""

    def copy(self, shard: int, offset: int, stride: int, out: Halves) -> None:
        """Fill rows of `out` (frames, values) with values stored `stride` bytes apart from `offset` of a shard on.

        Raises:
            BadShard: the shard can't be read.
        """


class Reader:
    """Reads windows of one split. Which of them a rank reads, and when, is `order`'s business."""

    def __init__(
        self, manifest: Manifest, windows: Windows, fields: Fields, frames: FrameSource, threads: int = 2
    ) -> None:
        """See `open_reader`."""
        self.manifest, self.windows, self.fields = manifest, windows, fields
        self.frames = frames
        self._buffers, self._threads = Recycler(), threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="gather")

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def events(self) -> Indices:
        """The event of each window, (windows,)."""
        return self.windows.events()

    def read(self, windows: Sequence[int] | Indices) -> Batch:
        """Gather windows into one batch of float16 tensors; only the bytes of the chosen fields are read.

        Raises:
            BadShard: a shard can't be read.
        """
        chosen = np.asarray(windows, dtype=np.int64)
        y, x = self.manifest.shape
        fields, places = self.fields, self.windows.places(chosen)
        levels, seen = len(fields.heights_km), self.windows.length - self._ahead
        radar = self._buffers.take((len(chosen), seen, len(fields.variables), levels, y, x))
        rain = self._buffers.take((len(chosen), seen, y, x)) if fields.rain else None
        # With the last frame seen before them.
        future = self._buffers.take((len(chosen), 1 + self._ahead, levels, y, x)) if self._ahead else None
        self._gather(places[:, :seen], fields.runs, radar, rain)
        if future is not None:
            self._gather(places[:, seen - 1 :], fields.future_runs, future)
        event, frame = torch.from_numpy(self.windows.begins(chosen)).unbind(1)
        rains, coming = (None if array is None else torch.from_numpy(array) for array in (rain, future))
        batch = Batch(torch.from_numpy(radar), rains, event, frame, fields.variables, fields.heights_km)
        return batch if coming is None else replace(batch, last_zh=coming[:, 0], target_zh=coming[:, 1:])

    @property
    def _ahead(self) -> int:
        """FrameSource of a window that are to be forecast."""
        return self.windows.targets if self.fields.future_runs else 0

    def _gather(self, places: Table, wanted: tuple[Run, ...], fields: Halves, rain: Halves | None = None) -> None:
        """Copy windows (b, t, 3) into fields (b, t, …) and rain (b, t, y, x), in threads where that pays."""
        runs, flat = _runs(places), fields.reshape(*places.shape[:2], -1)

        def copy(part: int, parts: int) -> None:
            for b, first, frames, shard, radar_at, rain_at, stride in runs:
                begin, end = frames * part // parts, frames * (part + 1) // parts
                rows = slice(first + begin, first + end)
                if begin == end:
                    continue
                for source, target, length in wanted:
                    where = radar_at + begin * stride + 2 * source
                    self.frames.copy(shard, where, stride, flat[b, rows, target : target + length])
                if rain is not None:
                    self.frames.copy(shard, rain_at + begin * stride, stride, rain[b, rows].reshape(end - begin, -1))

        parts = self._threads if fields.nbytes >= _WORTH_THREADS else 1
        # Copying lets go of the interpreter's lock.
        others = [self._pool.submit(copy, part, parts) for part in range(1, parts)]
        copy(0, parts)
        for other in others:
            other.result()


def _runs(places: Table) -> list[tuple[int, ...]]:
    """FrameSource (b, t, 3) as runs of equal distance: (b, first, frames, shard, radar at, rain at, stride)."""
    steps = np.diff(places, axis=1)
    stride = steps[:, 0, 1] if steps.shape[1] else np.zeros(len(places), np.int64)
    rain_steps = np.where(places[:, :1, 2] < 0, 0, stride[:, None])
    regular = (steps == np.stack(np.broadcast_arrays(0, stride[:, None], rain_steps), -1)).all((1, 2))
    runs: list[tuple[int, ...]] = []
    for b, (is_regular, window) in enumerate(zip(regular.tolist(), places.tolist(), strict=True)):
        if is_regular:
            runs.append((b, 0, len(window), *window[0], int(stride[b])))
        else:
            runs += [(b, t, 1, *row, 0) for t, row in enumerate(window)]
    return runs


def open_reader(
    manifest: Manifest,
    split: str,
    *,
    variables: Sequence[str],
    heights_km: Sequence[float],
    frames: int = 1,
    targets: int | None = None,
    context: int = 0,
    rain: bool = True,
    future: bool = False,
    threads: int = 2,
    patience: Patience | None = None,
    budget: int | None = None,
) -> Reader:
    """A reader of one split.

    Args:
        manifest: The shards' manifest.
        split: `train`, `validation` or `test`.
        variables: Which to read, in this order.
        heights_km: Which to read, in this order.
        frames: Window length in frames.
        targets: How many of its last frames are to be forecast, all by default; the shards' window filter asks for
            strong echo in one of them.
        context: FrameSource before each window that are read as well; its first frame where there are none.
        rain: Whether to read the rain rate.
        future: Whether the last `targets` frames of a window are to be forecast: only their zh is read, apart.
        threads: Threads that fill a large batch together.
        patience: With it shards are streamed whole from wherever they lie; without, a folder's files are read.
        budget: Bytes of mapped files that may become resident, `local.default_budget` by default; a split that needs
            more is read, not mapped.

    Raises:
        BadInput: the shards lack a variable, a height or the rain rate, or the split has no window.
    """
    fields = choose_fields(manifest, variables, heights_km, rain, future)
    windows = windows_of(manifest, split, frames, targets, context)
    return Reader(manifest, windows, fields, _frames(manifest, windows, fields, patience, budget), threads)


def _frames(
    manifest: Manifest, windows: Windows, fields: Fields, patience: Patience | None, budget: int | None
) -> FrameSource:
    if patience:
        return StreamedFrames(manifest, fields, windows, patience)
    needed = len(windows.rows) * fields.bytes_per_frame
    fits = needed <= (default_budget() if budget is None else budget)
    return MappedFrames(manifest) if fits else ReadFrames(manifest)


def only_test(manifest: Manifest) -> Manifest:
    """The same shards with every event in the test split, to score an archive as a whole."""
    events = tuple(sorted({int(e) for e in manifest.samples[:, 1]}))
    return replace(manifest, splits={"train": (), "validation": (), "test": events})
