"""Read the losses of a step after the next one is launched, so that a GPU does not wait for its host."""

from collections.abc import Sequence

import torch
from torch import Tensor

from polarcast.data.batch import Batch


class LateLosses:
    """Losses and gradient norm of one step, on their way to the host."""

    def __init__(self, step: int, batches: Sequence[Batch], losses: Sequence[Tensor], norm: Tensor) -> None:
        """Start the copy.

        Args:
            step: Number of the step.
            batches: Micro-batches of the step.
            losses: Loss of each, scalars on the device.
            norm: Gradient norm, a scalar on any device.
        """
        self.step, self.batches = step, batches
        values = torch.stack([*(loss.float() for loss in losses), norm.to(losses[0].device).float()])
        self._is_copied: torch.cuda.Event | None = None
        if values.is_cuda:
            # The copy to memory that is not page-locked would wait.
            host = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
            self._values, self._is_copied = host, torch.cuda.current_stream(values.device).record_event()
        else:
            self._values = values

    def read(self) -> tuple[list[float], float]:
        """Wait for the step; return the loss of each micro-batch, and the gradient norm."""
        if self._is_copied:
            self._is_copied.synchronize()
        *losses, norm = self._values.tolist()
        return losses, norm
