"""Memory-mapped shards → batches: no decoding, no copies but the one into the batch."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.batch import Batch
from polarcast.data.buffers import Halves, Recycler
from polarcast.data.errors import BadInput
from polarcast.data.manifest import Manifest

T = TypeVar("T")
_WORTH_THREADS = 2**22
"""Bytes of a batch below which handing work to threads costs more than it saves."""


class MappedReader:
    """Windows of consecutive frames of one split, read from memory-mapped shards.

    A window never crosses an event or a missing frame. Windows are numbered by (event, first frame); which of them a
    rank reads, and when, is `order`'s business.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        variables: Sequence[str],
        heights_km: Sequence[float],
        frames: int = 1,
        targets: int | None = None,
        rain: bool = True,
        threads: int = 2,
    ) -> None:
        """Map the shards that hold the split.

        Args:
            manifest: The shards' manifest.
            split: `train`, `validation` or `test`.
            variables: Which to read, in this order.
            heights_km: Which to read, in this order.
            frames: Window length in frames.
            targets: How many of its last frames are to be forecast, all by default; the shards' window filter asks
                for strong echo in one of them.
            rain: Whether to read the rain rate.
            threads: Threads that copy a large batch together.

        Raises:
            BadInput: the shards lack a variable, a height, the rain rate or a file, or the split has no window.
        """
        if rain and not manifest.has_rain:
            raise BadInput("the shards hold no rain rate", manifest.folder, "rain-rate estimation needs the rain grid")
        self._with_rain = rain
        self.manifest, self.frames = manifest, frames
        self.variables, self.heights_km = tuple(variables), tuple(heights_km)
        self._pixels = manifest.shape[0] * manifest.shape[1]
        self._runs = _runs(
            _positions(self.variables, manifest.variables, "variable", manifest.folder),
            _positions(self.heights_km, manifest.heights_km, "height", manifest.folder),
            len(manifest.heights_km),
            self._pixels,
        )
        self._buffers, self._threads = Recycler(), threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gather")
        self._rows = _frames_of(manifest, split)
        starts = _window_starts(self._rows, frames)
        self._starts = starts[_is_strong(self._rows, starts, frames, targets or frames, manifest)]
        if not len(self._starts):
            weak = f"; {len(starts)} have too little strong echo" if len(starts) else ""
            raise BadInput(f"the {split} split has no window of {frames} frames{weak}", manifest.folder, "shard more")
        self._halves = {int(i): _map(manifest, int(i)) for i in np.unique(self._rows[:, 0])}
        # Plain numbers, for they are looked up once a frame: (shard, first radar value, first rain value).
        self._places = [(shard, radar // 2, rain // 2) for shard, _, _, radar, rain, _ in self._rows.tolist()]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._starts)

    def events(self) -> npt.NDArray[np.int64]:
        """The event of each window, (windows,)."""
        return self._rows[self._starts, 1]

    def read(self, windows: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
        """Gather windows into one batch of float16 tensors; only the pages of the chosen fields are touched."""
        starts = self._starts[np.asarray(windows)]
        y, x = self.manifest.shape
        radar = self._buffers.take((len(starts), self.frames, len(self.variables), len(self.heights_km), y, x))
        rain = self._buffers.take((len(starts), self.frames, y, x)) if self._with_rain else None
        self._gather([(b, t, start + t) for b, start in enumerate(starts) for t in range(self.frames)], radar, rain)
        first = torch.from_numpy(self._rows[starts, 1:3].copy())
        return Batch(
            torch.from_numpy(radar),
            None if rain is None else torch.from_numpy(rain),
            first[:, 0],
            first[:, 1],
            self.variables,
            self.heights_km,
        )

    def _gather(self, frames: list[tuple[int, int, int]], radar: Halves, rain: Halves | None) -> None:
        """Copy frames (b, t, row) into a batch, in several threads where that pays."""

        def copy(part: list[tuple[int, int, int]]) -> None:
            for b, t, row in part:
                self._copy_radar(row, radar[b, t])
                if rain is not None:
                    shard, _, begins = self._places[row]
                    np.copyto(rain[b, t].reshape(-1), self._halves[shard][begins : begins + self._pixels])

        if self._threads == 1 or radar.nbytes < _WORTH_THREADS:
            copy(frames)
        else:
            # numpy lets go of the interpreter's lock while it copies.
            list(self._pool.map(copy, (frames[i :: self._threads] for i in range(self._threads))))

    def _copy_radar(self, row: int, out: Halves) -> None:
        """Runs of neighbouring fields of one frame, each in one copy."""
        shard, begins, _ = self._places[row]
        stored, flat = self._halves[shard], out.reshape(-1)
        for source, target, length in self._runs:
            np.copyto(flat[target : target + length], stored[begins + source : begins + source + length])


def prefetch(make: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Run an iterable a few items ahead in a thread, so that reading overlaps with computing."""
    iterator = iter(make)
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        waiting = [pool.submit(next, iterator, end) for _ in range(depth)]
        while (item := waiting.pop(0).result()) is not end:
            waiting.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]


def only_test(manifest: Manifest) -> Manifest:
    """The same shards with every event in the test split, to score an archive as a whole."""
    events = tuple(sorted({int(e) for e in manifest.table()[:, 1]}))
    return replace(manifest, splits={"train": (), "validation": (), "test": events})


def _positions(wanted: Sequence[object], there: Sequence[object], what: str, where: Path) -> list[int]:
    missing = [w for w in wanted if w not in there]
    if missing:
        raise BadInput(f"the shards hold no {what} {missing[0]}", where, f"they hold {', '.join(map(str, there))}")
    return [there.index(w) for w in wanted]


def _frames_of(manifest: Manifest, split: str) -> npt.NDArray[np.int64]:
    table = manifest.table()
    rows = table[np.isin(table[:, 1], manifest.splits.get(split, ()))]
    return rows[np.lexsort((rows[:, 2], rows[:, 1]))]


def _window_starts(rows: npt.NDArray[np.int64], frames: int) -> npt.NDArray[np.int64]:
    if len(rows) < frames:
        return np.empty(0, np.int64)
    first, last = rows[: len(rows) - frames + 1], rows[frames - 1 :]
    whole = (first[:, 1] == last[:, 1]) & (last[:, 2] - first[:, 2] == frames - 1)
    return np.flatnonzero(whole)


def _is_strong(
    rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], frames: int, targets: int, manifest: Manifest
) -> npt.NDArray[np.bool_]:
    """Whether one of a window's targets has as many strong pixels as the manifest's selection asks for."""
    wanted = manifest.selection["min_strong_pixels"]
    ahead = starts[:, None] + np.arange(frames - targets, frames)
    return (rows[:, 5] >= wanted)[ahead].any(1) if wanted else np.ones(len(starts), bool)


def _runs(variables: list[int], heights: list[int], levels: int, pixels: int) -> list[tuple[int, int, int]]:
    """The chosen fields of a frame as (from, to, length) in values; fields that lie side by side are one run."""
    runs: list[tuple[int, int, int]] = []
    for target, (v, z) in enumerate(product(variables, heights)):
        source = v * levels + z
        if runs and sum(runs[-1][::2]) == source * pixels:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + pixels)
        else:
            runs.append((source * pixels, target * pixels, pixels))
    return runs


def _map(manifest: Manifest, index: int) -> Halves:
    """A shard as one row of half-precision numbers; only the pages that are looked at are read."""
    shard = manifest.shards[index]
    path = manifest.folder / shard.name
    size = path.stat().st_size if path.is_file() else 0
    if size != shard.bytes:
        raise BadInput(
            f"{size} bytes, the manifest says {shard.bytes}",
            path,
            "copy it again, or shard the archive again",
        )
    return np.memmap(path, np.float16, "r").view(np.ndarray)
