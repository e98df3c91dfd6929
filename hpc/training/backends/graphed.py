"""Backend for one GPU that launches each step as CUDA graphs, and falls back to single kernels where it can't."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.training.backends.base import clip_limit, in_channels_last, make_optimizer, wants_bf16
from polarcast.hpc.training.backends.state import State, WholeState
from polarcast.hpc.training.graphs import CUDARecorder, RecordedStep, Recorder
from polarcast.hpc.training.stragglers import OwnTime
from polarcast.models.forecaster import Forecaster

_log = logging.getLogger("polarcast")


class GraphedBackend:
    """Train a model on one device with recorded steps.

    The step is recorded with the first batch. If that fails, steps run kernel by kernel, with the same results.
    """

    def __init__(
        self,
        model: Forecaster,
        config: TrainConfig,
        accumulation: int,
        world: World,
        make_recorder: Callable[[], Recorder] = CUDARecorder,
    ) -> None:
        """Move a model to the device; `make_recorder` replaces CUDA graphs, such as in tests on a CPU."""
        self._device = torch.device(device_of(world))
        self._model = in_channels_last(model, self._device)
        # A number would be part of the recording.
        self._rate = torch.tensor(config.learning_rate, device=self._device)
        self._optimizer = make_optimizer(model, config, self._rate, capturable=self._device.type == "cuda")
        whole = WholeState(dict(model.named_parameters()), self._optimizer)
        self.state: State = whole
        self._begin, self.own_time = whole.begin, OwnTime(self._device)
        self._accumulation, self._limit = accumulation, clip_limit(config)
        self._bf16 = wants_bf16(config, self._device)
        if config.compile:
            model.compile()
        self._make_recorder = make_recorder
        self._recorded: RecordedStep | None = None
        self.mode = ""

    def backward(self, batch: Batch, is_last: bool) -> Tensor:
        """See Backend."""
        if not self.mode:
            self._recorded = self._record(batch)
        with self.own_time:
            return self._recorded.backward(batch) if self._recorded else self._add_gradients(batch)

    def update(self, learning_rate: float) -> Tensor:
        """See Backend."""
        self._rate.fill_(learning_rate)
        return self._recorded.update() if self._recorded else self._step()

    def _record(self, batch: Batch) -> RecordedStep | None:
        """Record the step; return None, and log why, if that is impossible."""
        self.mode = self._obstacle(batch)
        if not self.mode:
            try:
                self._begin()
                recorded = RecordedStep(batch, self._add_gradients, self._step, self._changing, self._make_recorder())
                self.mode = GRAPHS
                return recorded
            except RuntimeError as error:
                self.mode = str(error).strip().partition("\n")[0] or type(error).__name__
                self._optimizer.zero_grad()
        _log.warning("polarcast: steps run without CUDA graphs: %s", self.mode)
        return None

    def _obstacle(self, batch: Batch) -> str:
        """Return why the step can't be recorded, as far as that is known beforehand."""
        if not batch.random and self._model.loss_numbers(batch) != ():
            return f"the loss of {type(self._model).__name__} makes random numbers on the host"
        return ""

    def _add_gradients(self, batch: Batch) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            loss: Tensor = self._model(batch)
        (loss / self._accumulation).backward()
        return loss.detach()

    def _step(self) -> Tensor:
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._limit)
        self._optimizer.step()
        # Not to None, as by default: the gradients must stay where they are.
        self._optimizer.zero_grad(set_to_none=False)
        return norm

    def _changing(self) -> list[Tensor]:
        """Return weights, buffers and the state of the optimizer."""
        moments = [value for of_one in self._optimizer.state.values() for value in of_one.values()]
        return [*(p.data for p in self._model.parameters()), *self._model.buffers(), *moments]


GRAPHS = "CUDA graphs"


def wants_graphs(config: TrainConfig, world: World) -> bool:
    """Return whether to try CUDA graphs; with `train.graphs=true`, log why not."""
    if config.graphs is False:
        return False
    obstacle = _static_obstacle(config, world)
    if obstacle and config.graphs is True:
        _log.warning("polarcast: steps run without CUDA graphs: %s", obstacle)
    return not obstacle


def _static_obstacle(config: TrainConfig, world: World) -> str:
    if torch.device(device_of(world)).type != "cuda":
        return "there is no GPU"
    if world.size > 1:
        return "several processes exchange gradients"
    if config.zero_stage:
        return f"ZeRO stage {config.zero_stage} moves weights and moments"
    return "train.checkpoint_activations reads the random state of the host" * config.checkpoint_activations
