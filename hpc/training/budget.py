"""FLOPs of the whole training of a run, base runs included: what runs of one budget have in common."""

from collections.abc import Iterator

from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.training.estimate import training_flops


def training_budget(resolved: ResolvedConfig, shape: tuple[int, int]) -> int:
    """Return the FLOPs of all training steps of a run and of the runs it builds on, each of them counted once.

    Steps × batch × FLOPs of a sample, forward and backward, on crops if samples are cropped. The passes of frozen bases
    within a step are included. Fits in one pass, validation and scoring are not.

    Args:
        resolved: Configuration of the run.
        shape: Grid size in pixels, (y, x).
    """
    runs = {digest(one.run): one for one in _with_bases(resolved)}
    return sum(_of_run(run, shape) for run in runs.values())


def _with_bases(resolved: ResolvedConfig) -> Iterator[ResolvedConfig]:
    yield resolved
    for base in resolved.bases:
        yield from _with_bases(base)


def _of_run(resolved: ResolvedConfig, shape: tuple[int, int]) -> int:
    """Return the FLOPs of the training steps of one run; 0 without any."""
    data, train = resolved.run.data, resolved.run.train
    if not resolved.model.trained:
        return 0
    return training_flops(resolved, (data.crop,) * 2 if data.crop else shape) * train.steps * train.global_batch
