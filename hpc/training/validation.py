"""Loss and scores on the validation split during training."""

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
from polarcast.hpc.scores.ratios import number_or_none
from polarcast.models.forecaster import Forecaster

Windows = npt.NDArray[np.int64]


def spread(count: int, most: int) -> Windows:
    """Return the indices of at most `most` of `count` windows, evenly spaced; 0: all."""
    chosen = min(most, count) or count
    return np.arange(chosen) * count // chosen


@torch.no_grad()
def validation_loss(
    model: Forecaster, reader: Reader, windows: Windows, world: World, on_batch: Callable[[], None] = lambda: None
) -> float:
    """Compute the mean validation loss over windows; batches do not depend on the number of processes."""
    losses, size = [], scoring_batch(reader.manifest)
    for start in range(0, len(windows), size)[world.rank :: world.size]:
        on_batch()
        batch = reader.read(windows[start : start + size])
        losses.append(float(model.validation_loss(batch.to(device_of(world)))) * len(batch))
    # fsum is exactly rounded, so the result does not depend on the order of the ranks.
    return math.fsum(loss for of_rank in gather(losses, world) for loss in of_rank) / len(windows)


def validation_scores(
    forecast: Forecast,
    reader: Reader,
    windows: Windows,
    world: World,
    wanted: Sequence[str],
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, float | None]:
    """Score one forecast of each window, pooled over all windows.

    Args:
        forecast: Function from a batch to forecasts.
        reader: Reader of the validation split.
        windows: Indices of the windows to score.
        world: Rank and size of the process group.
        wanted: Names of the scores.
        on_batch: Called for each batch.

    Returns:
        Value of each score; None where undefined.

    Raises:
        BadInput: a score that is not available for these forecasts.
    """
    if not wanted:
        return {}
    scores = [parse_score(name) for name in wanted]
    only = {score.family_name for score in scores}
    records = score(forecast, reader, world, lambda done, total: on_batch(), None, windows, only)
    return {str(one): number_or_none(float(one.of(one.sums(records).sum(0), records.protocol))) for one in scores}
