"""Training engine: step a model on all processes, average its weights, save and restore its state."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.process_group import share_statistics
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs.checkpoint import Tensors, TrainState
from polarcast.hpc.training.activation_checkpointing import checkpoint_activations
from polarcast.hpc.training.backends.base import Backend
from polarcast.hpc.training.backends.factory import make_backend
from polarcast.hpc.training.backends.state import ADAM_MOMENTS
from polarcast.hpc.training.late_losses import LateLosses
from polarcast.hpc.training.loss_guard import LossGuard
from polarcast.hpc.training.staging import Stager
from polarcast.models.forecaster import Forecaster


class Engine:
    """A model and its optimizer, distributed over the processes of a world."""

    def __init__(
        self,
        model: Forecaster,
        config: TrainConfig,
        world: World,
        micro_batch: int,
        state: TrainState | None = None,
        make: Callable[[Forecaster, TrainConfig, int, World], Backend] = make_backend,
    ) -> None:
        """Wrap the model. Every process must call this with the same weights.

        Args:
            model: Model to train; the engine takes ownership of it.
            config: Batch sizes and optimizer settings.
            world: Rank and size of the process group.
            micro_batch: Samples per forward pass of this process.
            state: State to resume from, instead of the weights of the model.
            make: Creates the backend.
        """
        if state:
            model.load_state_dict(state.weights)
        self.world, self.device = world, torch.device(device_of(world))
        self.steps_done = state.step if state else 0
        self.accumulation = config.global_batch // world.size // micro_batch
        # Sharded or averaged weights are evaluated in a separate model, kept on the CPU otherwise to save memory.
        self._eval_copy = copy.deepcopy(model) if config.average_decay or config.zero_stage == 3 else None
        if config.checkpoint_activations:
            checkpoint_activations(model)
        self._model = model
        self._names = [name for name, _ in model.named_parameters()]
        self._backend = make(model, config, micro_batch, world)
        self.own_time = self._backend.own_time
        # Nets that are stepped together, by another backend, are stacked on the host.
        self.stager = Stager(model, self.device if make is make_backend else torch.device("cpu"))
        self.lags = self.device.type == "cuda"
        self._unread: LateLosses | None = None
        self._loss: float | None = None
        self._state, self.guard = self._backend.state, LossGuard(world, config.explode)
        self._ema = EMA(self._state.shards(), config.average_decay) if config.average_decay else None
        if state:
            self._restore(state)

    @property
    def mode(self) -> str:
        """How steps run: by CUDA graphs, or why not; empty if that was not tried."""
        return self._backend.mode

    def step(self, batches: Sequence[Batch], learning_rate: float, wait: bool = True) -> float:
        """Take one optimizer step; return the mean loss over the micro-batches of this process.

        Args:
            batches: This process's micro-batches, `accumulation` of them.
            learning_rate: Learning rate of this step.
            wait: Whether to wait for its loss. Otherwise that of the step before is returned, and checked: the host
                prepares the next step, while the device computes this one. `lags` says where that saves time.

        Raises:
            ValueError: the number of micro-batches is not `accumulation`.
            WorkFailed: the loss or gradient norm is not finite, or the loss has exploded; with the step, rank and
                samples.
        """
        if len(batches) != self.accumulation:
            raise ValueError(f"expected {self.accumulation} micro-batches, got {len(batches)}")
        last = len(batches) - 1
        losses = [self._backend.backward(batch.to(self.device), i == last) for i, batch in enumerate(batches)]
        norm = self._backend.update(learning_rate)
        self._advance()
        # Synchronize with the device once per step, or after the next one is launched: each synchronization stalls it.
        before, self._unread = self._unread, LateLosses(self.steps_done, batches, losses, norm)
        self._check(before)
        if wait or self._loss is None:
            self.settle()
        assert self._loss is not None
        return self._loss

    def settle(self) -> None:
        """Read and check the losses of the last step, if they are not yet. Raises WorkFailed; see `step`."""
        unread, self._unread = self._unread, None
        self._check(unread)

    def _check(self, unread: LateLosses | None) -> None:
        if unread:
            losses, norm = unread.read()
            self.guard.check(unread.step, unread.batches, losses, norm)
            self._loss = sum(losses) / len(losses)

    def complete(self, batches: Sequence[Batch], values: Sequence[float], norm: float) -> float:
        """Check a step after the update of the weights, and average them; return the mean loss.

        Args:
            batches: This process's micro-batches.
            values: Loss of each micro-batch.
            norm: Gradient norm before clipping.

        Raises:
            WorkFailed: see `step`.
        """
        self._advance()
        self.guard.check(self.steps_done, batches, values, norm)
        return sum(values) / len(values)

    def _advance(self) -> None:
        self.steps_done += 1
        if self._ema:
            self._ema.update(self._state.shards(), self.steps_done)

    @contextmanager
    def eval_model(self) -> Iterator[Forecaster]:
        """Provide the model to evaluate, unsharded, in evaluation mode; collective. Raises WorkFailed; see `step`."""
        self.settle()
        share_statistics(self._model, self.world)
        if self._eval_copy is None:
            yield self._model.eval()
        else:
            self._eval_copy.load_state_dict({**self._buffers(), **dict(self._whole(self._best_shards()))})
            yield self._eval_copy.to(self.device).eval()
            self._eval_copy.to("cpu")
        self._model.train()

    @torch.no_grad()
    def state_dict(self) -> TrainState | None:
        """Copy the whole state on rank 0, return None on other ranks; collective. Raises WorkFailed; see `step`."""
        self.settle()
        share_statistics(self._model, self.world)
        buffers = self._copied(iter(self._buffers().items()))
        weights = self._copied(self._whole(self._state.shards()))
        average = self._copied(self._whole(self._ema.shards)) if self._ema else {}
        moments = self._copied(self._moments())
        if not self.world.is_first:
            return None
        return TrainState(self.steps_done, {**weights, **buffers}, {**average, **buffers} if average else {}, moments)

    def _restore(self, state: TrainState) -> None:
        self._state.restore(state.moments, self.steps_done)
        if self._ema and state.average:
            self._ema.shards = [self._state.shard(i, state.average[name]) for i, name in enumerate(self._names)]

    def _best_shards(self) -> Sequence[Tensor]:
        return self._ema.shards if self._ema else self._state.shards()

    def _whole(self, shards: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        for index, (name, shard) in enumerate(zip(self._names, shards, strict=True)):
            yield name, self._state.whole(index, shard)

    def _moments(self) -> Iterator[tuple[str, Tensor]]:
        for index, name in enumerate(self._names):
            for key in ADAM_MOMENTS:
                yield f"{name}/{key}", self._state.moment(index, key)

    def _buffers(self) -> Tensors:
        parameters = set(self._names)
        return {name: value for name, value in self._model.state_dict().items() if name not in parameters}

    def _copied(self, tensors: Iterator[tuple[str, Tensor]]) -> Tensors:
        """Copy tensors to the CPU on rank 0, one at a time; other ranks only take part in gathering them."""
        first = self.world.is_first
        pairs = ((name, value.detach().to("cpu", copy=True).contiguous() if first else None) for name, value in tensors)
        return {name: value for name, value in pairs if value is not None}


class EMA:
    """Exponential moving average of the weight shards of this process."""

    def __init__(self, shards: Sequence[Tensor], decay: float) -> None:
        self.shards = [shard.clone() for shard in shards]
        self._decay = decay

    @torch.no_grad()
    def update(self, shards: Sequence[Tensor], step: int) -> None:
        """Update the average with the weights after step `step` (from 1). Early steps use a smaller decay."""
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(self.shards, list(shards), 1 - decay)
