"""Speed of loading nowcasting batches: memory-mapped shards, a plain copy, stock WebDataset, files of frames."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.loading.reader import only_test, open_reader
from polarcast.data.loading.sampler import TrainSampler, whole_shuffle
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.write import write_shards
from polarcast.hpc.perf.busy import neighbors
from polarcast.hpc.perf.footprint import growth, startup
from polarcast.hpc.perf.measure import Measured, PerfRow, Run, busy_rows, interleaved, machine, ratio
from polarcast.hpc.perf.peer_process import peers
from polarcast.hpc.perf.peers import NAMES as PEERS
from polarcast.hpc.perf.peers import WORKERS
from polarcast.hpc.perf.spec import VARIABLES, LoaderSpec

HEIGHT_KM = 3.0
THREADS = 2
FLOOR, MAPPED, FILES = "copy of the bytes", "mapped shards", "np.load of every frame"


def measure_loader(
    folder: Path,
    spec: LoaderSpec,
    rounds: int,
    on_round: Callable[[int], None] | None = None,
    with_peers: bool = False,
    busy: int = 0,
) -> Measured:
    """Time all ways to load the same batches, in turn; then measure start-up and memory.

    Args:
        folder: Folder for the data; the caller keeps or deletes it.
        spec: Sizes.
        rounds: Measured rounds, after one warm-up round.
        on_round: Called with the number of rounds done.
        with_peers: Whether to include litdata and MosaicML Streaming, in an environment created for them.
        busy: Number of spinning neighbors in the busy half of each turn; 0 for no such half.

    Raises:
        WorkFailed: the environment of the peers cannot be created.
    """
    archive, manifest = _make(folder, spec)
    contenders: dict[str, Run] = {
        FLOOR: _floor(spec),
        MAPPED: _mapped(manifest, spec),
        **{f"webdataset, {w} workers": _webdataset(manifest, spec, w) for w in WORKERS},
        FILES: _files(archive, spec),
    }
    peer_runs = peers(folder / "peers", _frames(manifest), spec) if with_peers else nullcontext(dict[str, Run]())
    with peer_runs as others, neighbors(busy) as switch:
        works = {**contenders, **others}
        rows = interleaved(works, rounds, "GB/s", on_round, spec.rest_seconds, spec.least_seconds, switch)
    libraries = ("webdataset", *(PEERS if with_peers else ()))
    ratios, busy_ratios = (_ratios(found, libraries) for found in (rows, busy_rows(rows)))
    (folder / "large").mkdir()
    costs = [startup(folder / "large", manifest, rounds), growth(manifest, spec.frames, _size(manifest) // 4)]
    return Measured("loader", machine(), [*rows, *costs], ratios, {}, busy, busy_ratios)


def _ratios(rows: Sequence[PerfRow], libraries: Sequence[str]) -> dict[str, float]:
    """Return the speed of mapped shards as multiples of the others', of each library the fastest; none without rows."""
    rivals = [FLOOR, *(_best(rows, name) for name in libraries), FILES] if rows else []
    return {f"{MAPPED} / {other}": ratio(rows, MAPPED, other) for other in rivals}


def _best(rows: Sequence[PerfRow], library: str) -> str:
    """Return the name of a library's fastest row."""
    return max((row for row in rows if row.name.startswith(library)), key=lambda row: row.value).name


def _size(manifest: Manifest) -> int:
    return sum(shard.bytes for shard in manifest.shards)


def _frames(manifest: Manifest) -> Any:
    """Return all frames of the shards, (n, v, y, x) float16."""
    reader = open_reader(only_test(manifest), "test", variables=VARIABLES, heights_km=(HEIGHT_KM,), rain=False)
    return reader.read(range(len(reader))).radar[:, 0, :, 0].numpy()


def _make(folder: Path, spec: LoaderSpec) -> tuple[Archive, Manifest]:
    """Write an archive of noise and its shards; a reader's speed does not depend on the values."""
    rng = np.random.default_rng(0)
    shape = (spec.frames_per_event, len(VARIABLES), 1, spec.size, spec.size)
    for event in range(spec.events):
        write_event(folder / "archive", event, rng.random(shape, dtype=np.float32) + 1, None, heights_km=(HEIGHT_KM,))
    archive = open_archive(folder / "archive")
    return archive, write_shards(archive, folder / "shards", split="all-test", shard_mb=64)


def _floor(spec: LoaderSpec) -> Run:
    """Copy the same bytes within memory with the same number of threads: an upper bound for all readers."""
    # As large as the shards, so that neither source fits into the processor's cache.
    values = len(VARIABLES) * spec.size**2
    source = np.ones((spec.events * spec.frames_per_event, values), np.float16)
    out = np.zeros((spec.batch * spec.frames, source.shape[1]), np.float16)
    pool = ThreadPoolExecutor(THREADS)
    rng = np.random.default_rng(0)

    def run() -> float:
        for _ in range(spec.batches):
            starts = rng.integers(0, len(source) - spec.frames, spec.batch)

            def copy(part: int, starts: Any = starts) -> None:
                for b in range(part, spec.batch, THREADS):
                    np.copyto(out[b * spec.frames : (b + 1) * spec.frames], source[starts[b] : starts[b] + spec.frames])

            list(pool.map(copy, range(THREADS)))
        return spec.batches * spec.batch_bytes / 1e9

    return run


def _mapped(manifest: Manifest, spec: LoaderSpec) -> Run:
    reader = open_reader(
        manifest, "test", variables=VARIABLES, heights_km=(HEIGHT_KM,), frames=spec.frames, rain=False, threads=THREADS
    )
    sampler, step = TrainSampler(reader, whole_shuffle(reader, seed=0), seed=0), 0

    def run() -> float:
        nonlocal step
        for _ in range(spec.batches):
            sampler.read(np.arange(step, step + spec.batch))
            step += spec.batch
        return spec.batches * spec.batch_bytes / 1e9

    return run


def _webdataset(manifest: Manifest, spec: LoaderSpec, workers: int) -> Run:
    """Read with stock WebDataset in order, in disjoint windows: shuffling and overlap would only slow it down."""
    import webdataset as wds

    urls = [str(manifest.folder / shard.name) for shard in manifest.shards]
    data = wds.WebDataset(urls, shardshuffle=False, empty_check=False).decode()
    data = data.compose(lambda samples: _windows(samples, spec.frames)).batched(spec.batch, partial=False)
    # Batches read ahead before a round count in favor of WebDataset; keep their number small.
    ahead = {"prefetch_factor": 1, "persistent_workers": True} if workers else {}
    batches = _repeated(wds.WebLoader(data, batch_size=None, num_workers=workers, **ahead))

    def run() -> float:
        delivered = sum(len(batch) for batch in islice(batches, spec.batches))
        return delivered / spec.batch * spec.batch_bytes / 1e9

    return run


def _windows(samples: Iterator[dict[str, Any]], frames: int) -> Iterator[torch.Tensor]:
    while window := [torch.from_numpy(sample["radar.npy"]) for sample in islice(samples, frames)]:
        if len(window) == frames:
            yield torch.stack(window)


def _repeated(loader: Any) -> Iterator[torch.Tensor]:
    while True:
        yield from loader


def _files(archive: Archive, spec: LoaderSpec) -> Run:
    rng = np.random.default_rng(0)
    events = list(archive.frames)

    def window() -> torch.Tensor:
        event = int(rng.choice(events))
        start = int(rng.integers(0, spec.frames_per_event - spec.frames + 1))
        frames = [archive.read_radar(event, start + t) for t in range(spec.frames)]
        return torch.from_numpy(np.stack(frames).astype(np.float16))

    def run() -> float:
        # One batch is enough, because this is the slowest by far.
        torch.stack([window() for _ in range(spec.batch)])
        return spec.batch_bytes / 1e9

    return run
