"""What a run is judged by while it is trained, on windows of the validation split."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.loading.reader import Reader
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.evaluation.evaluate import Forecast, score
from polarcast.hpc.runs.build import scoring_batch
from polarcast.hpc.scores.query import parse_score
from polarcast.models.forecaster import Forecaster

Windows = npt.NDArray[np.int64]


def spread(count: int, most: int) -> Windows:
    """At most so many of `count` windows, evenly over them; all of them for 0."""
    chosen = min(most, count) or count
    return np.arange(chosen) * count // chosen


@torch.no_grad()
def validation_loss(
    model: Forecaster, reader: Reader, windows: Windows, world: World, on_batch: Callable[[], None] = lambda: None
) -> float:
    """Mean of what the model is judged by: each window once, in batches that no number of processes changes."""
    losses, size = [], scoring_batch(reader.manifest)
    for start in range(0, len(windows), size)[world.rank :: world.size]:
        on_batch()
        batch = reader.read(windows[start : start + size])
        losses.append(float(model.validation_loss(batch.to(device_of(world)))) * len(batch))
    # Exactly rounded, so that the order of the ranks does not matter either.
    return math.fsum(loss for of_rank in gather(losses, world) for loss in of_rank) / len(windows)


def validation_scores(
    forecast: Forecast,
    reader: Reader,
    windows: Windows,
    world: World,
    wanted: Sequence[str],
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, float | None]:
    """Scores of one forecast of each window, pooled over them; None where undefined.

    Raises:
        BadInput: a score that these forecasts don't have.
    """
    if not wanted:
        return {}
    scores = [parse_score(name) for name in wanted]
    # Scores by the change of echo are made of those by threshold.
    only = {score.family_name for score in scores} | {"contingency"}
    records = score(forecast, reader, world, lambda done, total: on_batch(), None, windows, only)
    return {str(one): _known(one.of(one.sums(records).sum(0), records.protocol)) for one in scores}


def _known(value: npt.NDArray[np.float64]) -> float | None:
    return float(value) if np.isfinite(value) else None
