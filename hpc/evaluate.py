"""A trained run on a split → sufficient statistics of each event, and a few forecasts for figures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.reading.prefetch import prefetch
from polarcast.data.reading.reader import Reader
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc import checkpoint
from polarcast.hpc.build import build_model, build_reader, scoring_batch
from polarcast.hpc.group import gather, join
from polarcast.hpc.run_folder import Output, RunFolder
from polarcast.hpc.scores.sums import EventSums, frame_sums, write_sums
from polarcast.hpc.world import World, device_of, set_threads
from polarcast.models.forecaster import Forecaster

CASE_QUANTILES = (0.99, 0.9, 0.75, 0.5)
"""Cases for figures: events at these quantiles of their wettest frame, chosen from the observations alone."""
_WORKERS = 2

OnFrames = Callable[[int, int], None]


def evaluate(
    run: RunFolder,
    manifest: Manifest,
    output: Output,
    split: str = "test",
    on_frames: OnFrames | None = None,
    world: World | None = None,
) -> EventSums:
    """Score a trained run on a split and write the sums of each event.

    Every window is scored once, in batches that don't depend on the number of ranks: nor do the scores.

    Args:
        run: A finished run.
        manifest: The shards to score on; not necessarily those it was trained on.
        output: Files to write.
        split: Which split.
        on_frames: Called on each rank with (its batches done, its batches in all).
        world: This process's place, alone by default; rank 0 writes.

    Raises:
        BadInput: the run is not trained, or the shards lack what it reads.
    """
    if not run.is_trained:
        raise BadInput("this run is not trained to its end", run.path, "continue it with: polarcast train")
    config = run.config()
    world = world or World()
    join(world)
    set_threads(config.train.threads, world)
    model = build_model(config)
    checkpoint.load_weights(run.weights_file, model)
    model.to(device_of(world)).eval()
    reader = build_reader(config, manifest, split)
    frames = _all_frames(model, reader, world, on_frames)
    sums = EventSums.of_frames(reader.events(), frames, manifest.pixels * reader.windows.frames)
    if world.is_first:
        _write_cases(output.cases, model, reader)
        write_sums(output.scores, sums)
    return sums


@torch.no_grad()
def _all_frames(model: Forecaster, reader: Reader, world: World, on_frames: OnFrames | None) -> npt.NDArray[np.float64]:
    """Sums of every window, (n, c, s), in the reader's order, on every rank."""
    size = scoring_batch(reader.manifest)
    starts = range(0, len(reader), size)
    mine = [np.arange(start, min(start + size, len(reader))) for start in starts[world.rank :: world.size]]
    parts = []
    for batch in prefetch(reader.read, mine, _WORKERS):
        there = batch.to(device_of(world))
        parts.append(frame_sums(_mean_forecast(model, there), there.rain_rate.flatten(0, 1)).cpu().numpy())
        if on_frames:
            on_frames(len(parts), len(mine))
    by_rank = gather(parts, world)
    return np.concatenate([by_rank[i % world.size][i // world.size] for i in range(len(starts))])


def _mean_forecast(model: Forecaster, batch: Batch) -> torch.Tensor:
    """Ensemble mean of the forecast, (b · t, y, x)."""
    return model.forecast(batch).mean(1).flatten(0, 1)


@torch.no_grad()
def _write_cases(path: Path, model: Forecaster, reader: Reader) -> None:
    batch = reader.read(case_windows(reader)).to(device_of(World()))
    arrays = {
        "radar": batch.radar[:, 0],
        "observed": batch.rain_rate[:, 0],
        "forecast": model.forecast(batch)[:, 0, 0],
        "event": batch.event,
        "frame": batch.frame,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{k: v.cpu().numpy() for k, v in arrays.items()})  # type: ignore[arg-type]


def case_windows(reader: Reader) -> list[int]:
    """The wettest window of each of a few events, from very wet to median; the same for every model."""
    wetness = reader.windows.intensity()
    events = reader.events()
    wettest = [int(np.flatnonzero(events == e)[wetness[events == e].argmax()]) for e in np.unique(events)]
    ordered = sorted(wettest, key=lambda window: wetness[window])
    picked = [ordered[round(q * (len(ordered) - 1))] for q in CASE_QUANTILES]
    return list(dict.fromkeys(picked))
