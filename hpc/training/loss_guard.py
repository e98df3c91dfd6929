"""Losses that no training recovers from: not finite, or suddenly far beyond what they were."""

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

from polarcast.data.batch import Batch
from polarcast.data.errors import WorkFailed
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World

_REMEMBERED = 100
_ENOUGH = 20
_ADVICE = "lower train.learning_rate, or look at these samples with: polarcast data check"


class LossGuard:
    """Watches the losses of one process; stops all of them with the step, the rank and the samples at fault."""

    def __init__(self, world: World, explode: float, seen: Sequence[float] = ()) -> None:
        """`explode`: times the median of the last hundred losses that stop the run, 0 for never; `seen`: the first of
        those losses."""
        self._world, self._explode = world, explode
        self.seen = deque(seen, maxlen=_REMEMBERED)

    def check(self, step: int, batches: Sequence[Batch], losses: Sequence[float], norm: float) -> None:
        """Look at one step, whose gradients had this norm over all processes.

        Raises:
            WorkFailed: a loss or the gradients are not finite, or a loss has exploded.
        """
        if not math.isfinite(norm):  # as every process sees: all tell the same
            told = "; ".join(filter(None, gather(self._not_finite(batches, losses), self._world)))
            raise WorkFailed(f"step {step}: {told or self._no_loss_at_fault(batches, norm)}; {_ADVICE}")
        for batch, loss in zip(batches, losses, strict=True):
            if not math.isfinite(loss) or self._has_exploded(loss):
                raise WorkFailed(f"step {step}: {self._told(batch, loss)}; {_ADVICE}")
        self.seen.extend(losses)

    def _not_finite(self, batches: Sequence[Batch], losses: Sequence[float]) -> str:
        pairs = zip(batches, losses, strict=True)
        return "; ".join(self._told(batch, loss) for batch, loss in pairs if not math.isfinite(loss))

    def _no_loss_at_fault(self, batches: Sequence[Batch], norm: float) -> str:
        drawn = gather(", ".join(_names(batch) for batch in batches), self._world)
        by_rank = "; ".join(f"rank {rank}: {names}" for rank, names in enumerate(drawn))
        return f"gradients of norm {norm} though every loss is finite ({by_rank})"

    def _told(self, batch: Batch, loss: float) -> str:
        usual = f", {self._explode:g} times the usual {median(self.seen):.3g} or more," if math.isfinite(loss) else ""
        return f"loss {loss:.4g}{usual} on rank {self._world.rank} for {_names(batch)}"

    def _has_exploded(self, loss: float) -> bool:
        return bool(self._explode) and len(self.seen) >= _ENOUGH and loss > self._explode * median(self.seen) > 0


def _names(batch: Batch) -> str:
    """The samples of a batch, as the archive names their events and first frames."""
    pairs = zip(batch.event.tolist(), batch.frame.tolist(), strict=True)
    return ", ".join(f"{event:03d}-{frame:03d}" for event, frame in pairs)
