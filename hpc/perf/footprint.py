"""Costs of a reader besides throughput: start-up with many shards, and memory over many epochs."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from polarcast.data.loading.reader import open_reader
from polarcast.data.loading.sampler import TrainSampler, whole_shuffle
from polarcast.data.shards.manifest import NAME, Manifest, Shard, read_manifest
from polarcast.data.shards.source import ShardSource
from polarcast.data.workers import end_with_parent
from polarcast.hpc.perf.measure import PerfRow

SHARDS = 10_000
_FRAMES_PER_SHARD = 200
_FRAMES_PER_EVENT = 40
_EPOCHS = 4


def startup(folder: Path, like: Manifest, rounds: int) -> PerfRow:
    """Measure the seconds from a manifest of `SHARDS` shards on disk to the first windows of the order."""
    (folder / NAME).write_text(_large(folder, like).to_json(), encoding="utf-8")
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        manifest = read_manifest(folder)
        reader = open_reader(manifest, "train", variables=("zh",), heights_km=like.heights_km, frames=20, rain=False)
        TrainSampler(reader, whole_shuffle(reader, 0), 0).windows(np.arange(32))
        seconds.append(time.perf_counter() - started)
    frames = f"{SHARDS * _FRAMES_PER_SHARD:,} frames"
    return PerfRow(f"start-up, {SHARDS:,} shards, {frames}", float(np.median(seconds)), "s", min(seconds), max(seconds))


def growth(manifest: Manifest, frames: int, budget: int) -> PerfRow:
    """Measure the growth of resident memory over epochs of a data set larger than the budget, in MiB."""
    # In a new process, because memory freed in this one would hide the growth.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        grown = pool.submit(_grown, manifest, frames, budget).result()
    size = sum(s.bytes for s in manifest.shards) / 2**20
    name = f"growth over {_EPOCHS} epochs of {size:.0f} MiB, budget {budget / 2**20:.0f} MiB"
    return PerfRow(name, grown[-1], "MiB", min(grown), max(grown))


def _grown(manifest: Manifest, frames: int, budget: int) -> list[float]:
    """Return resident memory at the end of each epoch minus that after the first batch, in MiB."""
    reader = open_reader(
        manifest, "test", variables=manifest.variables, heights_km=manifest.heights_km, frames=frames, rain=False,
        budget=budget,
    )  # fmt: skip
    sampler = TrainSampler(reader, whole_shuffle(reader, 0), 0)
    sampler.read(np.arange(8))
    before, ends = _resident(), []
    for epoch in range(_EPOCHS):
        for start in range(epoch * len(reader), (epoch + 1) * len(reader), 8):
            sampler.read(np.arange(start, start + 8))
        ends.append((_resident() - before) / 2**20)
    return ends


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _large(folder: Path, like: Manifest) -> Manifest:
    """Return a manifest of many shards that do not exist, with events of the usual length."""
    number = np.arange(SHARDS * _FRAMES_PER_SHARD)
    shard, within = np.divmod(number, _FRAMES_PER_SHARD)
    event, frame = np.divmod(number, _FRAMES_PER_EVENT)
    stride = 2 * 10 * like.pixels + 3 * 512
    size = 640 + _FRAMES_PER_SHARD * stride
    absent = -np.ones_like(number)
    columns = [shard, event, frame, 640 + within * stride, absent, number % 900, number % 9000, absent]
    events = tuple(range(int(event[-1]) + 1))
    cut = len(events) // 5
    return Manifest(
        **{
            **like.__dict__,
            "source": ShardSource(str(folder)),
            "units": {name: unit for name, unit in like.units.items() if name in like.variables},
            "splits": {"train": events[cut:], "validation": events[: cut // 2], "test": events[cut // 2 : cut]},
            "shards": tuple(Shard(f"shard-{i:06d}.tar", size, "0" * 64) for i in range(SHARDS)),
            "samples": np.column_stack(columns),
        }
    )
