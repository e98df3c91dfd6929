"""A model in training on all processes: stepped, averaged, looked at as a whole, brought back from a checkpoint."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.process_group import share_statistics
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs.checkpoint import Tensors, TrainState
from polarcast.hpc.training.activation_checkpointing import checkpoint_activations
from polarcast.hpc.training.backends.factory import make_backend
from polarcast.hpc.training.backends.state import ADAM_MOMENTS
from polarcast.hpc.training.loss_guard import LossGuard
from polarcast.models.forecaster import Forecaster


class Engine:
    """A model and its optimizer, over all processes of a world."""

    def __init__(
        self, model: Forecaster, config: TrainConfig, world: World, micro_batch: int, state: TrainState | None = None
    ) -> None:
        """Wrap the model. Every process of the world must do so, with the same weights.

        Args:
            model: What to train; it is the engine's from now on.
            config: Batch sizes and optimizer settings.
            world: This process's place.
            micro_batch: Samples this process computes at once.
            state: What to continue from, in place of the model's own weights.
        """
        if state:
            model.load_state_dict(state.weights)
        self.world, self.device = world, torch.device(device_of(world))
        self.steps_done = state.step if state else 0
        self.accumulation = config.global_batch // world.size // micro_batch
        # Sharded or averaged weights are judged whole, in a model of their own; between that it makes room.
        self._eval_copy = copy.deepcopy(model) if config.average_decay or config.zero_stage == 3 else None
        if config.checkpoint_activations:
            checkpoint_activations(model)
        self._model = model
        self._names = [name for name, _ in model.named_parameters()]
        self._backend = make_backend(model, config, micro_batch, world)
        self.own_time = self._backend.own_time
        self._state, self.guard = self._backend.state, LossGuard(world, config.explode)
        self._ema = EMA(self._state.shards(), config.average_decay) if config.average_decay else None
        if state:
            self._restore(state)

    def step(self, batches: Sequence[Batch], learning_rate: float) -> float:
        """One optimizer step; returns this process's mean loss over its micro-batches.

        Args:
            batches: This process's micro-batches, `accumulation` of them.
            learning_rate: Of this step.

        Raises:
            ValueError: the number of micro-batches is not `accumulation`.
            WorkFailed: the loss or the gradients are not finite, or have exploded; names the step, the rank and the
                samples.
        """
        if len(batches) != self.accumulation:
            raise ValueError(f"expected {self.accumulation} micro-batches, got {len(batches)}")
        last = len(batches) - 1
        losses = [self._backend.backward(batch.to(self.device), i == last) for i, batch in enumerate(batches)]
        norm = self._backend.update(learning_rate)
        self.steps_done += 1
        # One look at the device for the whole step: each would stall it.
        told: list[float] = torch.stack(losses).tolist()
        self.guard.check(self.steps_done, batches, told, norm)
        if self._ema:
            self._ema.update(self._state.shards(), self.steps_done)
        return sum(told) / len(told)

    @contextmanager
    def eval_model(self) -> Iterator[Forecaster]:
        """The model to be judged by, whole on every process, in evaluation mode; collective."""
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
        """A copy of everything, on rank 0; None on the others. Collective."""
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
        """Copies on the CPU, on rank 0; the others give what they have to each, one at a time."""
        first = self.world.is_first
        pairs = ((name, value.detach().to("cpu", copy=True) if first else None) for name, value in tensors)
        return {name: value for name, value in pairs if value is not None}


class EMA:
    """Exponential moving average of what this process holds of the weights, shard by shard."""

    def __init__(self, shards: Sequence[Tensor], decay: float) -> None:
        self.shards = [shard.clone() for shard in shards]
        self._decay = decay

    @torch.no_grad()
    def update(self, shards: Sequence[Tensor], step: int) -> None:
        """Take in the weights after step number `step` (from 1). Early on the mean is over fewer steps."""
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(self.shards, list(shards), 1 - decay)
