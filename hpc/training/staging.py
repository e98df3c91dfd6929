"""Prepare batches ahead of their step: random numbers of the loss, and the copy to the GPU on a stream of its own.

The threads that read batches also stage them. The next batches are thus on the GPU, or on their way, while it computes
the present step. Fields travel as float16 from page-locked memory; conversion and scaling are done on the device.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.training.graphs import fields_of
from polarcast.models.forecaster import Forecaster


@dataclass(frozen=True)
class StagedBatch:
    """A batch on its way to the device."""

    batch: Batch
    source: Batch | None = None
    """The same on the host: its memory must not be reused before the copy is complete."""
    is_copied: torch.cuda.Event | None = None


class Stager:
    """Stages batches for one device; on a CPU, only the random numbers are made ahead."""

    def __init__(self, model: Forecaster, device: torch.device) -> None:
        """Prepare to stage the training batches of a model on a device."""
        self._model, self._device = model, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def stage(self, batch: Batch) -> StagedBatch:
        """Make the random numbers of a batch and start its copy; may be called in any thread."""
        batch = replace(batch, random=batch.random or self._model.loss_numbers(batch) or ())
        if self._stream is None:
            return StagedBatch(batch)
        source = batch.map(_pinned)
        with torch.cuda.stream(self._stream):
            return StagedBatch(source.to(self._device), source, self._stream.record_event())

    def take(self, staged: StagedBatch) -> Batch:
        """Return the batch for use on the current stream, which waits for the copy; the host does not."""
        if staged.is_copied:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(staged.is_copied)
            for field in fields_of(staged.batch):
                # The memory belongs to the other stream, which could reuse it during the step.
                field.record_stream(stream)
        return staged.batch


def _pinned(field: Tensor) -> Tensor:
    return field if field.is_pinned() else field.pin_memory()
