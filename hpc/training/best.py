"""Choose the best checkpoint of a run among those that are valid."""

import logging
import math
from pathlib import Path

from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.checkpoint import Progress
from polarcast.hpc.runs.folder import BEST_LOST, RunFolder

_log = logging.getLogger("polarcast")


def best_checkpoint(run: RunFolder, progress: Progress) -> Path | None:
    """Return the best checkpoint of a run; if it is lost, the best of those that are left, and log that.

    Args:
        run: The run; its log has the loss of each validation.
        progress: Progress of the run; the best step and its loss are updated.

    Returns:
        Folder of the checkpoint; None without a validation, or if no checkpoint is valid.
    """
    if progress.best_step < 0:
        return None
    path = run.checkpoints / checkpoint.name_of(progress.best_step)
    if not (problem := checkpoint.problem_of(path)):
        return path
    losses = validation_losses(run)
    chosen = checkpoint.best(run.checkpoints, losses)
    progress.best_step = checkpoint.step_of(chosen) if chosen else -1
    progress.best_score = losses.get(progress.best_step, math.inf)
    left = f"using {chosen.name}, the best of those that are left" if chosen else "no other is valid"
    _log.warning("polarcast: the best checkpoint %s is lost: %s; %s", path, problem, left)
    run.log(event=BEST_LOST, step=progress.step, lost=path.name, problem=problem, best_step=progress.best_step)
    return chosen


def validation_losses(run: RunFolder) -> dict[int, float]:
    """Return step → validation loss, from the log; infinite if it is not a number."""
    records = [r for r in run.records() if r["event"] == "validation" and "step" in r]
    losses = {r["step"]: r.get("loss") for r in records}
    return {s: v if isinstance(v, int | float) and math.isfinite(v) else math.inf for s, v in losses.items()}
