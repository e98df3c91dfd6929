"""FLOPs of the whole training of a run, base runs included: what runs of one budget have in common."""

from collections.abc import Iterator

from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.training.estimate import training_flops


def training_budget(resolved: ResolvedConfig, shape: tuple[int, int]) -> int:
    """Return the FLOPs of all training steps of a run and of those it builds on or starts from, each counted once.

    Steps × batch × FLOPs of a sample, forward and backward, on crops if samples are cropped. The passes of frozen bases
    within a step are included. Fits in one pass, validation and scoring are not.

    Args:
        resolved: Configuration of the run.
        shape: Grid size in pixels, (y, x). A run that another starts from may have been trained on another grid.
    """
    runs = {digest(one.run): _of_run(one, grid) for one, grid in _with_earlier(resolved, shape)}
    return sum(runs.values())


def _with_earlier(resolved: ResolvedConfig, shape: tuple[int, int]) -> Iterator[tuple[ResolvedConfig, tuple[int, int]]]:
    """Yield a run, its base runs and those it starts from, with the grid of each."""
    yield resolved, shape
    for base in resolved.bases:
        yield from _with_earlier(base, shape)
    if resolved.start and (start := resolved.run.start):
        yield from _with_earlier(resolved.start, (start.grid[0], start.grid[1]) if start.grid else shape)


def _of_run(resolved: ResolvedConfig, shape: tuple[int, int]) -> int:
    """Return the FLOPs of the training steps of one run; 0 without any."""
    data, train = resolved.run.data, resolved.run.train
    if not resolved.model.trained:
        return 0
    return training_flops(resolved, (data.crop,) * 2 if data.crop else shape) * train.steps * train.global_batch
