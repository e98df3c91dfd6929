"""Shards in which every pixel encodes its event and frame, so that the source of a batch can be verified."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from polarcast.data.archive import open_archive, write_event
from polarcast.data.batch import Batch
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.write import write_shards

PER_EVENT = 32
SIZE = 8


def marked_shards(
    folder: Path, frames: Sequence[int], shard_mb: int = 0, size: int = SIZE, masked: bool = False
) -> Manifest:
    """Write shards of training events with the given numbers of frames; shard_mb=0 gives each event its own shard.

    With masks, all but the first row was observed.
    """
    observed = np.broadcast_to(np.arange(size)[:, None] > 0, (1, 2, size, size)) if masked else None
    for event, length in enumerate(frames):
        marks = (event * PER_EVENT + np.arange(length) + 1).astype(np.float32)
        radar = np.broadcast_to(marks[:, None, None, None, None], (length, 1, 1, size, size))
        rain = np.broadcast_to(marks[:, None, None], (length, size, size))
        write_event(
            folder / "archive", event, radar, rain, variables=("zh",), heights_km=(3.0,), observed=observed
        )  # fmt: skip
    manifest = write_shards(open_archive(folder / "archive"), folder / "shards", split="all-test", shard_mb=shard_mb)
    return all_to_train(manifest)


def all_to_train(manifest: Manifest) -> Manifest:
    """Put every event in the training split."""
    events = tuple(sorted({int(e) for e in manifest.samples[:, 1]}))
    return replace(manifest, splits={"train": events, "validation": (), "test": ()})


def samples_of(batch: Batch) -> list[tuple[int, int]]:
    """Decode (event, first frame) of a batch's windows from its pixels."""
    marks = batch.radar[:, 0, 0, 0, 0, 0].int() - 1
    samples = [divmod(int(mark), PER_EVENT) for mark in marks]
    assert samples == list(zip(batch.event.tolist(), batch.frame.tolist(), strict=True))
    steps = batch.radar[:, :, 0, 0, 0, 0] - batch.radar[:, :1, 0, 0, 0, 0]
    assert (steps == np.arange(batch.radar.shape[1])).all()
    assert (batch.rain_rate[..., 0, 0] == batch.radar[:, :, 0, 0, 0, 0]).all()
    return samples
