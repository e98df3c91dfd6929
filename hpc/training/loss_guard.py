"""Stop a run at a non-finite or exploding loss."""

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

from polarcast.data.batch import Batch
from polarcast.data.errors import WorkFailed
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World

_WINDOW = 100
_MIN_LOSSES = 20
_ADVICE = "lower train.learning_rate, or check these samples with: polarcast data check"


class LossGuard:
    """Check the losses of one process; errors report the step, the rank and the samples."""

    def __init__(self, world: World, explode: float, recent: Sequence[float] = ()) -> None:
        """Start with the losses `recent`.

        Args:
            world: Rank and size of the process group.
            explode: Stop at a loss above this multiple of the median of the last 100 losses; 0: never.
            recent: Previous losses, such as those of a checkpoint.
        """
        self._world, self._explode = world, explode
        self.recent = deque(recent, maxlen=_WINDOW)

    def check(self, step: int, batches: Sequence[Batch], losses: Sequence[float], norm: float) -> None:
        """Check the losses and the gradient norm of one step.

        Args:
            step: Number of the step.
            batches: Micro-batches of this process.
            losses: Loss of each micro-batch.
            norm: Gradient norm over all processes.

        Raises:
            WorkFailed: a loss or the gradient norm is not finite, or a loss has exploded.
        """
        if not math.isfinite(norm):  # the same on every process, so all raise the same error
            causes = "; ".join(filter(None, gather(self._not_finite(batches, losses), self._world)))
            raise WorkFailed(f"step {step}: {causes or self._describe_norm(batches, norm)}; {_ADVICE}")
        for batch, loss in zip(batches, losses, strict=True):
            if not math.isfinite(loss) or self._has_exploded(loss):
                raise WorkFailed(f"step {step}: {self._describe(batch, loss)}; {_ADVICE}")
        self.recent.extend(losses)

    def _not_finite(self, batches: Sequence[Batch], losses: Sequence[float]) -> str:
        pairs = zip(batches, losses, strict=True)
        return "; ".join(self._describe(batch, loss) for batch, loss in pairs if not math.isfinite(loss))

    def _describe_norm(self, batches: Sequence[Batch], norm: float) -> str:
        drawn = gather(", ".join(_names(batch) for batch in batches), self._world)
        by_rank = "; ".join(f"rank {rank}: {names}" for rank, names in enumerate(drawn))
        return f"gradient norm {norm}, although all losses are finite ({by_rank})"

    def _describe(self, batch: Batch, loss: float) -> str:
        limit = f" (over {self._explode:g} × the median {median(self.recent):.3g})" if math.isfinite(loss) else ""
        return f"loss {loss:.4g}{limit} on rank {self._world.rank} for {_names(batch)}"

    def _has_exploded(self, loss: float) -> bool:
        return (
            bool(self._explode) and len(self.recent) >= _MIN_LOSSES and loss > self._explode * median(self.recent) > 0
        )


def _names(batch: Batch) -> str:
    """Format the event and first frame of each sample, as the archive names them."""
    pairs = zip(batch.event.tolist(), batch.frame.tolist(), strict=True)
    return ", ".join(f"{event:03d}-{frame:03d}" for event, frame in pairs)
