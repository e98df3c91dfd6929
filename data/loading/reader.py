"""Reader that gathers windows of frames into batches, from mapped files, reads or streams."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.buffers import Halves, Recycler
from polarcast.data.loading.donors import Donors, fixed_keys
from polarcast.data.loading.fields import Fields, Run, choose_fields
from polarcast.data.loading.local import MappedFrames, ReadFrames, default_budget
from polarcast.data.loading.permute import Indices
from polarcast.data.loading.stream import StreamedFrames
from polarcast.data.loading.windows import Windows, windows_of
from polarcast.data.observed import Mask, level_bytes, unpack
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.health import bad_shards
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import Table

_MIN_BYTES_FOR_THREADS = 2**22
"""Batch size in bytes below which threads cost more than they save."""


class FrameSource(Protocol):
    """Source of stored frames."""

    def watch(self, verified_at: float, sums: bool) -> None:
        """Take the shards as verified at a Unix time in s; with `sums`, verify files that change later once more."""

    def changed(self) -> dict[int, str]:
        """Check shards that were replaced or changed since they were opened; return the problems by number."""

    def expect(self, shards: set[int]) -> None:
        """Prepare to read from these shards and no others."""

    def copy(self, shard: int, offset: int, stride: int, out: Halves) -> None:
        """Fill the rows of `out` (frames, values) from a shard, where they are `stride` bytes apart from `offset`.

        Raises:
            BadShard: The shard can't be read.
        """


class Reader:
    """Reads windows of one split by number; `order` defines which rank reads which windows."""

    def __init__(
        self,
        manifest: Manifest,
        windows: Windows,
        fields: Fields,
        frames: FrameSource,
        threads: int = 2,
        lenders: Windows | None = None,
    ) -> None:
        """Create a reader; see `open_reader`. Donors are among the lenders, by default the windows of the split."""
        self.manifest, self.windows, self.fields = manifest, windows, fields
        self.frames, self.lenders = frames, lenders or windows
        self._as_lender = None if lenders is None else _positions(windows, lenders)
        self.donors = self.make_donors() if fields.donor_runs else None
        self._buffers, self._threads = Recycler(), threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="gather")

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def events(self) -> Indices:
        """Event of each window, (windows,)."""
        return self.windows.events()

    def used_shards(self) -> Indices:
        """Shards of all frames that may be read, ascending."""
        return np.union1d(self.windows.used_shards(), self.lenders.used_shards())

    def make_donors(self, weights: npt.NDArray[np.float64] | None = None) -> Donors:
        """Return the choice of donors of a placebo, by the weights of the lenders (windows,).

        Streamed shards are read whole, so donors come from the window's own shard where it holds another group.

        Raises:
            BadInput: The split has one group of events only.
        """
        events, event = np.unique(self.lenders.events(), return_inverse=True)
        names = [self.manifest.group_of(number) for number in events.tolist()]
        pools = self.lenders.shards()[:, 0] if isinstance(self.frames, StreamedFrames) else None
        try:
            return Donors(np.unique(names, return_inverse=True)[1][event], weights, pools)
        except ValueError as error:
            raise BadInput(str(error), self.manifest.source.shown, "use shards with more groups") from None

    def verify(
        self, chosen: Iterable[int], sums: bool, on_shard: Callable[[int], None] | None = None
    ) -> dict[int, str]:
        """Check some shards against the manifest, and from now on all that change later; return the problems by number.

        Streams are verified while they are read, not here.

        Args:
            chosen: Numbers of the shards to check.
            sums: Whether to verify the SHA-256, not only the size.
            on_shard: Called with the number of shards done.
        """
        if isinstance(self.frames, StreamedFrames):
            return {}
        verified_at = time.time()
        problems = bad_shards(self.manifest, chosen, sums=sums, on_shard=on_shard)
        self.frames.watch(verified_at, sums)
        return problems

    def read(self, windows: Sequence[int] | Indices, donors: Indices | None = None) -> Batch:
        """Gather windows into one batch of float16 tensors, reading only the chosen fields.

        Args:
            windows: Numbers of the windows.
            donors: Lenders that a placebo takes all variables but zh from; by default, a fixed one for each window.

        Raises:
            BadShard: A shard can't be read.
        """
        chosen = np.asarray(windows, dtype=np.int64)
        y, x = self.manifest.shape
        fields, places = self.fields, self.windows.places(chosen)
        levels, observed = len(fields.heights_km), self.windows.length - self._ahead
        radar = self._buffers.take((len(chosen), observed, len(fields.variables), levels, y, x))
        rain = self._buffers.take((len(chosen), observed, y, x)) if fields.rain else None
        # Includes the last observed frame, which becomes `last_zh`.
        future = self._buffers.take((len(chosen), 1 + self._ahead, levels, y, x)) if self._ahead else None
        self._gather(places[:, :observed], fields.runs, radar, rain)
        if self.donors is not None:
            given = self._fixed_donors(chosen) if donors is None else donors
            self._gather(self.lenders.places(given)[:, :observed], fields.donor_runs, radar)
        if future is not None:
            self._gather(places[:, observed - 1 :], fields.future_runs, future)
        event, frame = torch.from_numpy(self.windows.begins(chosen)).unbind(1)
        rain_rate, zh = (None if array is None else torch.from_numpy(array) for array in (rain, future))
        batch = Batch(torch.from_numpy(radar), rain_rate, event, frame, fields.variables, fields.heights_km)
        batch = batch if zh is None else replace(batch, last_zh=zh[:, 0], target_zh=zh[:, 1:])
        return self._with_masks(batch, chosen) if fields.mask_runs else batch

    def _fixed_donors(self, windows: Indices) -> Indices:
        """Return the fixed donor of each window of a placebo, by its number among the lenders."""
        assert self.donors is not None, "only a placebo has donors"
        own = windows if self._as_lender is None else self._as_lender[windows]
        return self.donors.of(own, fixed_keys(self.windows.begins(windows)))

    def _with_masks(self, batch: Batch, windows: Indices) -> Batch:
        """Add the masks of what is forecast, with those of the last input frame, or of the last frame's rain rate."""
        places = self.windows.mask_places(windows)[:, -1 - self._ahead :]
        masks = torch.from_numpy(self._masks(places))
        if not self._ahead:
            return replace(batch, observed=masks)
        return replace(batch, last_observed=masks[:, 0], observed=masks[:, 1:])

    def _masks(self, places: Table) -> Mask:
        """Read masks at places (b, t, 2), (b, t, z, y, x); frames without masks are observed everywhere."""
        runs = self.fields.mask_runs
        bits = np.full((*places.shape[:2], 2 * sum(length for *_, length in runs)), 0xFF, np.uint8)
        pairs = bits.view(np.float16)
        for b, frames in enumerate(places.tolist()):
            for t, (shard, at) in enumerate(frames):
                for source, target, length in runs if at >= 0 else ():
                    self.frames.copy(shard, at + 2 * source, 0, pairs[b, t : t + 1, target : target + length])
        by_level = bits.reshape(*bits.shape[:2], -1, level_bytes(self.manifest.pixels))
        return unpack(by_level, self.manifest.shape)

    @property
    def _ahead(self) -> int:
        """Number of frames to forecast per window."""
        return self.windows.targets if self.fields.future_runs else 0

    def _gather(self, places: Table, field_runs: tuple[Run, ...], fields: Halves, rain: Halves | None = None) -> None:
        """Copy windows (b, t, 3) into fields (b, t, …) and rain (b, t, y, x), in threads for large batches."""
        runs, flat = _runs(places), fields.reshape(*places.shape[:2], -1)

        def copy(part: int, parts: int) -> None:
            for b, first, frames, shard, radar_at, rain_at, stride in runs:
                begin, end = frames * part // parts, frames * (part + 1) // parts
                rows = slice(first + begin, first + end)
                if begin == end:
                    continue
                for source, target, length in field_runs:
                    offset = radar_at + begin * stride + 2 * source
                    self.frames.copy(shard, offset, stride, flat[b, rows, target : target + length])
                if rain is not None:
                    self.frames.copy(shard, rain_at + begin * stride, stride, rain[b, rows].reshape(end - begin, -1))

        parts = self._threads if fields.nbytes >= _MIN_BYTES_FOR_THREADS else 1
        # Threads run in parallel because copying releases the GIL.
        others = [self._pool.submit(copy, part, parts) for part in range(1, parts)]
        copy(0, parts)
        for other in others:
            other.result()


def _positions(windows: Windows, lenders: Windows) -> Indices:
    """Return the number that each window has among lenders, all of which it is one of, (windows,)."""
    own, others = (_numbers(one.begins(np.arange(len(one)))) for one in (windows, lenders))
    return np.searchsorted(others, own)


def _numbers(begins: Table) -> Indices:
    """Return events and frames (n, 2) as single numbers, which ascend with the event, then with the frame."""
    return (begins[:, 0] << 32) + begins[:, 1]


def _runs(places: Table) -> list[tuple[int, ...]]:
    """Group places (b, t, 3) into runs of constant stride: (b, first, frames, shard, radar at, rain at, stride)."""
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
    placebo: bool = False,
    observed: bool = False,
    threads: int = 2,
    patience: Patience | None = None,
    budget: int | None = None,
    keep: Callable[[Windows], npt.NDArray[np.bool_]] | None = None,
) -> Reader:
    """Open a reader of one split.

    Args:
        manifest: Manifest of the shards.
        split: `train`, `validation` or `test`.
        variables: Variables to read, in this order.
        heights_km: Heights to read, in this order.
        frames: Window length in frames.
        targets: Number of frames to forecast at the end of a window, all by default. The shards' window filter requires
            strong echo in one of them.
        context: Number of frames to read before each window; missing ones are filled with the next available frame.
        rain: Whether to read the rain rate.
        future: Whether the last `targets` frames of a window are to be forecast; only their zh is read, separately.
        placebo: Whether all variables but zh are read from windows of other groups of events; see `donors`. Those of a
            validation or test split that is the fold of `leave-one-out` may be of the other splits.
        observed: Whether to read the masks of what is forecast or estimated; `Batch.observed` is None if the shards
            have no masks.
        threads: Number of threads that fill a large batch.
        patience: Retries and timeouts; if given, whole shards are streamed from any location. Otherwise local files
            are mapped or read.
        budget: Maximum bytes of mapped files, `local.default_budget` by default; larger splits are read, not mapped.
        keep: Function that says which windows are used, (windows,); all by default.

    Raises:
        BadInput: The shards lack a variable, a height or the rain rate, or the split has no window; or, for a placebo,
            one group only.
    """
    fields = choose_fields(manifest, variables, heights_km, rain, future, placebo, observed)
    windows = windows_of(manifest, split, frames, targets, context)
    if keep:
        windows = replace(windows, starts=windows.starts[keep(windows)])
    lenders = None
    if placebo and manifest.is_fold and split != "train":
        every = tuple(sorted({event for events in manifest.splits.values() for event in events}))
        whole = replace(manifest, splits={**manifest.splits, split: every})
        lenders = windows_of(whole, split, frames, targets, context)
    source = _frames(manifest, lenders or windows, fields, patience, budget)
    try:
        return Reader(manifest, windows, fields, source, threads, lenders)
    except BadInput as error:
        raise error.at(f"the {split} split of {manifest.source.shown}") from None


def _frames(
    manifest: Manifest, windows: Windows, fields: Fields, patience: Patience | None, budget: int | None
) -> FrameSource:
    if patience:
        return StreamedFrames(manifest, fields, windows, patience)
    needed = len(windows.rows) * fields.bytes_per_frame
    fits = needed <= (default_budget() if budget is None else budget)
    return MappedFrames(manifest) if fits else ReadFrames(manifest)


def only_test(manifest: Manifest) -> Manifest:
    """Put every event in the test split, to score a whole archive."""
    events = tuple(sorted({int(e) for e in manifest.samples[:, 1]}))
    return replace(manifest, splits={"train": (), "validation": (), "test": events})
