"""CUDA graphs: record the kernels of a training step once, and launch them all with two calls.

A small network leaves a GPU waiting for its host, which launches some thousand kernels a step. A graph launches them at
once. Everything in it must stay where it was when it was recorded: inputs, weights, gradients, moments and results lie
in fixed buffers, shapes are constant, and nothing waits for the host. See the section on CUDA graphs in the
documentation of PyTorch (Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs").
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from polarcast.data.batch import Batch

_WARM_UPS = 3
"""Steps before the recording, in which libraries choose algorithms and allocate workspaces, which a graph can't."""


@dataclass(frozen=True)
class Recorded:
    """A recorded function without arguments."""

    replay: Callable[[], None]
    """Compute the function again, on the present content of all buffers, into `result`."""
    result: Tensor


class Recorder(Protocol):
    """Records functions without arguments, which are later replayed in the order of their recording."""

    def warm_up(self, function: Callable[[], object]) -> None:
        """Call a function as often as it takes to record it afterwards."""
        ...

    def record(self, function: Callable[[], Tensor]) -> Recorded:
        """Record a function. It may change the buffers, or not.

        Raises:
            RuntimeError: the function can't be recorded, such as one that waits for the host, or memory ran out.
        """
        ...


class CUDARecorder:
    """Records CUDA graphs that share their memory pool, so that the second one reuses the memory of the first.

    Warm-up and recordings run on one stream of their own: workspaces and nodes of autograd belong to a stream.
    """

    def __init__(self) -> None:
        """Create the stream on the present device."""
        self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def warm_up(self, function: Callable[[], object]) -> None:
        """See Recorder."""
        with self._aside():
            for _ in range(_WARM_UPS):
                function()

    def record(self, function: Callable[[], Tensor]) -> Recorded:
        """See Recorder."""
        graph = torch.cuda.CUDAGraph()
        # Threads that stage batches go on allocating memory; by default, that would spoil the recording.
        capture = torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local")
        try:
            with self._aside(), capture:
                result = function()
        except RuntimeError as error:
            self._close_pool()
            # After an error, the end of the recording fails as well, and says less.
            raise error.__context__ if isinstance(error.__context__, RuntimeError) else error from None
        return Recorded(graph.replay, result)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Run kernels on the recorder's stream, after those of the present one and before its next ones.

        Also after an error: torch leaves its stream on when a recording fails, and kernels of a failed warm-up may
        still change the state.
        """
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            before.wait_stream(self._stream)

    def _close_pool(self) -> None:
        """End the allocation for a failed recording, which torch leaves on: no memory of streams would be reused."""
        device = torch.cuda.current_device()
        with suppress(RuntimeError):  # the recording has been ended
            # Private names.
            torch._C._cuda_endAllocateToPool(device, self._pool)
            torch._C._cuda_releasePool(device, self._pool)


class StaticBatch:
    """A batch in fixed buffers on the device, into which later batches are copied."""

    def __init__(self, batch: Batch) -> None:
        """Allocate buffers for a batch on the device and batches of the same shapes."""
        device = batch.radar.device
        # Numbers on the device can't be read without waiting for it: a loss that depends on them is not recorded
        # silently with those of the first batch.
        index = batch.sample_index
        self.batch = replace(
            batch.map(torch.clone),
            event=batch.event.to(device),
            frame=batch.frame.to(device),
            sample_index=None if index is None else index.to(device),
        )

    def fill(self, batch: Batch) -> None:
        """Copy a batch on the device into the buffers.

        Raises:
            ValueError: its shapes differ.
        """
        ours, theirs = fields_of(self.batch), fields_of(batch)
        if [field.shape for field in ours] != [field.shape for field in theirs]:
            raise ValueError(f"a recorded step takes {ours[0].shape} only, got {theirs[0].shape}")
        torch._foreach_copy_(ours, theirs)


class RecordedStep:
    """A training step in two recorded functions: gradients of a batch, and the update of the weights."""

    def __init__(
        self,
        batch: Batch,
        backward: Callable[[Batch], Tensor],
        update: Callable[[], Tensor],
        state: Callable[[], Sequence[Tensor]],
        recorder: Recorder,
    ) -> None:
        """Warm up and record. The state is left, or put back, as it was, also if this fails.

        Args:
            batch: First batch, on the device.
            backward: Adds the gradients of a batch to those of the parameters, and returns the detached loss.
            update: Steps the optimizer, clears the gradients, and returns their norm before clipping.
            state: Returns all tensors that the two change, except gradients.
            recorder: Records the functions.

        Raises:
            RuntimeError: the step can't be recorded; see Recorder.
        """
        self._inputs = StaticBatch(batch)

        def gradients() -> Tensor:
            return backward(self._inputs.batch)

        with unchanged(state()):
            recorder.warm_up(lambda: (gradients(), update()))
            self._backward = recorder.record(gradients)
            self._update = recorder.record(update)

    def backward(self, batch: Batch) -> Tensor:
        """Add the gradients of a batch on the device; return a copy of the loss, without waiting for it."""
        self._inputs.fill(batch)
        self._backward.replay()
        return self._backward.result.clone()

    def update(self) -> Tensor:
        """Step the optimizer; return a copy of the gradient norm, without waiting for it."""
        self._update.replay()
        return self._update.result.clone()


@contextmanager
def unchanged(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Restore the values of tensors on exit."""
    with torch.no_grad():
        saved = [tensor.clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)


def fields_of(batch: Batch) -> list[Tensor]:
    """Return all fields of a batch that are on its device, in a fixed order."""
    fields = (batch.radar, batch.rain, batch.target_zh, batch.last_zh, *batch.random)
    return [field for field in fields if field is not None]
