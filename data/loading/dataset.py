"""Windows of shards as a `torch.utils.data.Dataset`, for training loops other than the suite's own."""

import operator
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, get_worker_info

from polarcast.data.arguments import different, flag, one_of, path_text, whole
from polarcast.data.batch import Batch
from polarcast.data.loading.reader import Reader, only_test, open_reader
from polarcast.data.shards.health import SIZES, SUMS, BadShard
from polarcast.data.shards.manifest import Manifest, read_manifest

ALL = "all"
SPLITS = ("train", "validation", "test", ALL)


@dataclass(frozen=True)
class _Window:
    """What a sample consists of; see `open_shards`."""

    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    frames: int
    lead_frames: int
    context: int
    rain: bool
    observed: bool


class ShardDataset(Dataset[Batch]):
    """Windows of one split of a folder of shards, in order of event and frame.

    Indexing with an int gives a `Batch` of one window. A stock `DataLoader`, with or without workers, needs
    `collate_fn=data.collate`; it then reads each batch at once. `Batch.to(device)` brings it to a device in float32.

    Training inside the suite does not use this class: its global order is independent of ranks and workers.
    """

    def __init__(self, manifest: Manifest, split: str, window: _Window) -> None:
        """Prefer `open_shards`, which checks its arguments."""
        self.manifest, self.split, self._window = manifest, split, window
        self._readers: dict[int, Reader] = {}
        self._verified: tuple[float, bool] | None = None
        self._length = len(self._reader)

    def __len__(self) -> int:
        """Return the number of windows."""
        return self._length

    def __getitem__(self, index: int) -> Batch:
        """Return one window as a batch of one, float16. Raises IndexError beyond the last window."""
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"window {number} of {len(self)}")
        return self._reader.read([number % len(self)])

    def __repr__(self) -> str:
        names = ", ".join(self.variables)
        return f"ShardDataset({self.manifest.source.shown!r}, {self.split}: {len(self)} windows of {names})"

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return several windows as one batch, float16: a DataLoader asks for those of a batch together."""
        return self._reader.read(list(indices))

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps and threads do not travel to other processes: each opens its own.
        return {**self.__dict__, "_readers": {}}

    @staticmethod
    def collate(samples: Batch | Sequence[Batch]) -> Batch:
        """Join batches along their first dimension; for the `collate_fn` of a DataLoader."""
        return samples if isinstance(samples, Batch) else concatenate(samples)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names along v."""
        return self._window.variables

    @property
    def heights_km(self) -> tuple[float, ...]:
        """Heights along z in km."""
        return self._window.heights_km

    @cached_property
    def events(self) -> torch.Tensor:
        """Event number of each window, (windows,) int64."""
        return torch.from_numpy(self._reader.events().copy())

    def verify(self, sums: bool) -> None:
        """Check the shards of this split against the manifest, and from now on all that change later.

        Raises:
            BadInput: a shard is damaged.
        """
        self._verified = time.time(), sums
        for shard, problem in self._reader.verify(self._reader.windows.used_shards().tolist(), sums).items():
            raise BadShard(shard, problem, self.manifest.source.shown_url(self.manifest.shards[shard].name))

    @property
    def _reader(self) -> Reader:
        process = os.getpid()
        if process not in self._readers:
            self._readers = {process: self._open()}
            if self._verified:
                self._readers[process].frames.watch(*self._verified)
        return self._readers[process]

    def _open(self) -> Reader:
        window = self._window
        is_nowcast = window.lead_frames > 0
        return open_reader(
            only_test(self.manifest) if self.split == ALL else self.manifest,
            "test" if self.split == ALL else self.split,
            variables=window.variables,
            heights_km=window.heights_km,
            frames=window.frames + window.lead_frames,
            targets=window.lead_frames if is_nowcast else None,
            future=is_nowcast,
            context=window.context,
            rain=window.rain,
            observed=window.observed,
            # Workers of a DataLoader are the parallelism; threads of their own would only compete.
            threads=1 if get_worker_info() else 2,
        )


def open_shards(
    location: str | Path,
    split: str = "train",
    *,
    variables: Sequence[str] | None = None,
    heights_km: Sequence[float] | None = None,
    frames: int = 1,
    lead_frames: int = 0,
    context: int = 0,
    rain: bool | None = None,
    observed: bool = False,
    verify: str = "sums",
) -> ShardDataset:
    """Open one split of a folder of shards as a `torch.utils.data.Dataset` of windows.

    Args:
        location: Folder of shards, as `polarcast data shard` writes it.
        split: train, validation or test; all for the events of all splits.
        variables: Any of zh (dBZ), zdr (dB), kdp (deg/km), in this order along v; all that the shards hold by default.
        heights_km: Heights in km, in this order along z; all by default.
        frames: Input frames of a window.
        lead_frames: Frames after them that a nowcast forecasts, t of `Batch.target_zh` (b, t, z, y, x) in dBZ.
        context: Frames before each window that are read, too; at the start of an event its first frame is repeated.
            `Batch.radar` (b, t, v, z, y, x) and `Batch.rain` have context + frames along t.
        rain: Whether `Batch.rain` (b, t, y, x) in mm/h is read; by default where the shards hold it and nothing is
            forecast.
        observed: Whether `Batch.observed` is read: where the rain rate of the last frame, or the fields to forecast,
            were observed. It is None where the shards have no masks, because all pixels count as observed.
        verify: What is checked of the split's shards. sums: SHA-256, repeated only after a file changes; sizes: file
            sizes only.

    Returns:
        A dataset of windows that never cross an event or a missing frame.

    Raises:
        BadInput: there are no shards, one is damaged, they lack a variable, a height or the rain rate, or the split has
            no window.
    """
    one_of(split, "split", SPLITS)
    one_of(verify, "verify", (SUMS, SIZES))
    for name, several in (("variables", variables), ("heights_km", heights_km)):
        if several is not None:
            different(several, name)
    if rain is not None:
        flag(rain, "rain")
    frames, lead_frames = whole(frames, "frames", 1), whole(lead_frames, "lead_frames", 0)
    context = whole(context, "context", 0)
    manifest = read_manifest(path_text(location, "location"))
    window = _Window(
        tuple(manifest.variables if variables is None else variables),
        tuple(manifest.heights_km if heights_km is None else heights_km),
        frames,
        lead_frames,
        context,
        manifest.has_rain and not lead_frames if rain is None else rain,
        flag(observed, "observed"),
    )
    data = ShardDataset(manifest, split, window)
    data.verify(verify == SUMS)
    return data


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Join batches of the same variables and heights along their first dimension.

    Raises:
        ValueError: there is none, or they differ in what they hold.
    """
    if not batches:
        raise ValueError("no batch to join")
    first = batches[0]
    if any((b.variables, b.heights_km) != (first.variables, first.heights_km) for b in batches):
        raise ValueError("batches differ in variables or heights")
    joined: dict[str, Any] = {name: _joined([getattr(b, name) for b in batches]) for name in _TENSORS}
    return replace(first, **joined)


_TENSORS = ("radar", "rain", "event", "frame", "sample_index", "target_zh", "last_zh", "observed", "last_observed")


def _joined(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    if there and len(there) < len(tensors):
        raise ValueError("some batches hold a field that others lack")
    return torch.cat(there) if there else None
