"""Step many nets of one architecture at once, with stacked parameters.

The parameters of all nets lie in one matrix, a row per net. The loss runs under `torch.func.vmap`, which turns the
convolutions of the nets into one grouped convolution. AdamW and the moving average work element by element on the
matrix, so they equal those of separate nets. Gradients are clipped by the norm of each row.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs.checkpoint import TrainState
from polarcast.hpc.training.backends.graphed import GraphedBackend, wants_graphs
from polarcast.hpc.training.backends.state import ADAM_MOMENTS, State
from polarcast.hpc.training.engine import EMA, Engine
from polarcast.hpc.training.stragglers import OwnTime
from polarcast.models.common.stacked import stacked
from polarcast.models.forecaster import Forecaster, parameter_count

_CLIP_EPSILON = 1e-6
"""Added to the norm, as in `torch.nn.utils.clip_grad_norm_`."""
_BUFFER = "buffer_"
_NO_GRAPHS = "no CUDA graphs"
"""Mode of a backend that does not try CUDA graphs."""
_APART = "the nets of a stack are stepped together"


class StackedNets(Forecaster):
    """Several nets of one architecture: parameters (net, parameters), and buffers (net, …)."""

    def __init__(self, model: Forecaster, count: int) -> None:
        """Allocate `count` nets like `model`, with zero parameters and with its buffers."""
        super().__init__()
        self.count, self.shapes = count, {name: p.shape for name, p in model.named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.flat = nn.Parameter(torch.zeros(count, parameter_count(model)))
        self._buffer_names = [name for name, _ in model.named_buffers()]
        for number, buffer in enumerate(model.buffers()):
            self.register_buffer(f"{_BUFFER}{number}", torch.stack([buffer.detach()] * count))
        # Not a submodule: its parameters are placeholders.
        self._layers = [copy.deepcopy(model).train()]
        for module in self._layers[0].modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.forward = partial(_convolve, module)  # type: ignore[method-assign]
            elif isinstance(module, nn.BatchNorm2d):
                module.forward = partial(_normalize, module.forward)  # type: ignore[method-assign]

    def stacked_buffers(self) -> dict[str, Tensor]:
        """Return the buffers of all nets by their name in one net; changes of them in place last."""
        return {name: self.get_buffer(f"{_BUFFER}{number}") for number, name in enumerate(self._buffer_names)}

    def views(self, row: Tensor) -> list[Tensor]:
        """Return the parts of a row (parameters,) in the shapes of the parameters."""
        return [part.view(shape) for part, shape in zip(row.split(self.sizes), self.shapes.values(), strict=True)]

    def loss_numbers(self, batch: Batch) -> tuple[Tensor, ...] | None:
        """Return the random numbers of the loss of a net; see `Forecaster`."""
        return self._layers[0].loss_numbers(batch)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of each net for its own samples, (net,).

        Args:
            batch: Samples of the first net, then those of the second, and so on; equally many of each.

        Raises:
            RuntimeError: an operation of the model does not support vmap.
        """
        parts = zip(self.flat.split(self.sizes, 1), self.shapes.items(), strict=True)
        parameters = {name: part.view(self.count, *shape) for part, (name, shape) in parts}
        by_net = {name: _by_net(value, self.count) for name, value in _tensors(batch).items()}
        return vmap(partial(self._one_loss, batch))(parameters, self.stacked_buffers(), by_net)

    def _one_loss(self, like: Batch, parameters: Any, buffers: Any, tensors: Any) -> Tensor:
        with stacked():
            loss: Tensor = functional_call(self._layers[0], (parameters, buffers), (replace(like, **tensors),))
        return loss


class StackBackend(GraphedBackend):
    """Backend of stacked nets: losses and gradient norms are tensors (net,); CUDA graphs where there is a GPU."""

    _model: StackedNets

    def __init__(self, nets: StackedNets, config: TrainConfig, accumulation: int, world: World) -> None:
        """Move the nets to the device; see `GraphedBackend`."""
        # One process steps all nets: nothing is sharded, whatever the ZeRO stage.
        config = replace(config, compile=False, zero_stage=0)
        super().__init__(nets, config, accumulation, world)
        self.mode = "" if wants_graphs(config, world) else _NO_GRAPHS

    def begin(self, steps: int) -> None:
        """Set the number of completed steps of all nets."""
        self._begin()
        self._optimizer.state[self._model.flat]["step"].fill_(steps)

    def _add_gradients(self, batch: Batch) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            losses: Tensor = self._model(batch)
        (losses / self._accumulation).sum().backward()
        return losses.detach()

    @torch.no_grad()
    def _step(self) -> Tensor:
        gradient = self._model.flat.grad
        assert gradient is not None
        norms = torch.linalg.vector_norm(gradient, dim=1)
        gradient.mul_((self._limit / (norms + _CLIP_EPSILON)).clamp(max=1.0)[:, None])
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)
        return norms


class NetStack:
    """Nets of several runs, their optimizer and their moving average; `NetEngine` puts a net into a slot."""

    def __init__(self, count: int, config: TrainConfig, world: World, accumulation: int) -> None:
        """Prepare a stack of `count` nets.

        Args:
            count: Number of slots. A slot that stays empty costs time and nothing else.
            config: Optimizer settings, which all nets share.
            world: World of one process.
            accumulation: Micro-batches per step.
        """
        self.count, self._config, self._world, self._accumulation = count, config, world, accumulation
        self._device = torch.device(device_of(world))
        self.average: EMA | None = None
        self.steps_done = 0

    @property
    def mode(self) -> str:
        """How steps run: by CUDA graphs, or why not; empty if that was not tried."""
        return self.backend.mode.replace(_NO_GRAPHS, "")

    def adopt(self, slot: int, model: Forecaster) -> None:
        """Move a model to the device and into the stack: its tensors become views of those of the stack.

        Raises:
            ValueError: the model differs in the shape of a parameter from the first one.
        """
        model.to(self._device)
        if not hasattr(self, "nets"):
            self._allocate(model)
        if {name: p.shape for name, p in model.named_parameters()} != self.nets.shapes:
            raise ValueError("nets of different shapes can't be stacked")
        for parameter, view in zip(model.parameters(), self.nets.views(self.nets.flat.data[slot]), strict=True):
            parameter.data = view.copy_(parameter.data)
        buffers = self.nets.stacked_buffers()
        for name, buffer in model.named_buffers():
            buffer.data = buffers[name][slot].copy_(buffer)

    def _allocate(self, model: Forecaster) -> None:
        self.nets = StackedNets(model, self.count)
        self.backend = StackBackend(self.nets, self._config, self._accumulation, self._world)

    def moment(self, slot: int, key: str) -> Tensor:
        """Return one of ADAM_MOMENTS of a net, a view (parameters,)."""
        return self.backend.state.moment(0, key)[slot]

    def joined(self, batches: Sequence[Batch]) -> Batch:
        """Return one batch on the device, with the samples of all nets in turn and the random numbers of their losses.

        Args:
            batches: A batch on the CPU for each net, of equal shapes.

        Raises:
            RuntimeError: the random numbers can't be separated from the loss.
        """
        made = [batch.random or self.nets.loss_numbers(batch) for batch in batches]
        if None in made:
            raise RuntimeError("its loss makes random numbers itself")
        found = [_tensors(replace(batch, random=numbers or ())) for batch, numbers in zip(batches, made, strict=True)]
        whole = {name: _joined([tensors[name] for tensors in found]) for name in found[0]}
        one = replace(batches[0], **whole)
        return (one.pin_memory() if self._device.type == "cuda" else one).to(self._device)

    def step(self, drawn: Sequence[Sequence[Batch]], learning_rate: float) -> tuple[list[list[float]], list[float]]:
        """Take one optimizer step of all nets.

        Args:
            drawn: The micro-batches of each net, on the CPU.
            learning_rate: Learning rate of this step.

        Returns:
            The losses of the micro-batches and the gradient norm before clipping, for each net.
        """
        whole = [self.joined(batches) for batches in zip(*drawn, strict=True)]
        losses = [self.backend.backward(batch, i == len(whole) - 1) for i, batch in enumerate(whole)]
        norms = self.backend.update(learning_rate)
        self.steps_done += 1
        if self.average:
            self.average.update([self.nets.flat.data], self.steps_done)
        # Synchronize with the device once per step.
        *values, norm_of = torch.stack([*(loss.float() for loss in losses), norms]).tolist()
        return [list(of_net) for of_net in zip(*values, strict=True)], norm_of

    def begin(self, steps: int) -> None:
        """Set the number of completed steps, those of resumed nets."""
        self.steps_done = steps
        self.backend.begin(steps)


class NetState:
    """State of one net of a stack; implements `State`."""

    def __init__(self, stack: NetStack, slot: int) -> None:
        self._stack, self._slot, self._nets = stack, slot, stack.nets

    def shards(self) -> list[Tensor]:
        """See State."""
        return self._nets.views(self._nets.flat.data[self._slot])

    def whole(self, index: int, shard: Tensor) -> Tensor:
        """See State."""
        return shard

    def shard(self, index: int, whole: Tensor) -> Tensor:
        """See State."""
        return whole.to(self._nets.flat.device, copy=True)

    def moment(self, index: int, key: str) -> Tensor:
        """See State."""
        return self._nets.views(self._stack.moment(self._slot, key))[index]

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See State."""
        self._stack.begin(steps)
        for key in ADAM_MOMENTS:
            parts = self._nets.views(self._stack.moment(self._slot, key))
            for name, part in zip(self._nets.shapes, parts, strict=True):
                part.copy_(moments[f"{name}/{key}"])


class NetBackend:
    """Backend of one net of a stack, whose `NetStack` takes its steps."""

    def __init__(self, stack: NetStack, slot: int, model: Forecaster) -> None:
        """Put a model into a slot."""
        stack.adopt(slot, model)
        self.state: State = NetState(stack, slot)
        self.own_time, self.mode = OwnTime(torch.device("cpu")), ""

    def backward(self, batch: Batch, is_last: bool) -> Tensor:
        """Raise RuntimeError."""
        raise RuntimeError(_APART)

    def update(self, learning_rate: float) -> Tensor:
        """Raise RuntimeError."""
        raise RuntimeError(_APART)


class NetEngine(Engine):
    """Engine of one net of a stack: checks its losses, evaluates it and saves it; the stack takes its steps."""

    def __init__(
        self,
        stack: NetStack,
        slot: int,
        model: Forecaster,
        config: TrainConfig,
        world: World,
        micro_batch: int,
        state: TrainState | None = None,
    ) -> None:
        """Put a model into a slot; see `Engine`."""
        super().__init__(model, config, world, micro_batch, state, lambda model, *_: NetBackend(stack, slot, model))
        if self._ema:
            self._ema = _SharedEMA(stack, slot, self._ema.shards, config.average_decay)


class _SharedEMA(EMA):
    """Moving average of one net, which its stack keeps and updates."""

    def __init__(self, stack: NetStack, slot: int, shards: Sequence[Tensor], decay: float) -> None:
        stack.average = stack.average or EMA([stack.nets.flat.data], decay)
        self.shards = stack.nets.views(stack.average.shards[0][slot])
        for mine, shard in zip(self.shards, shards, strict=True):
            mine.copy_(shard)

    def update(self, shards: Sequence[Tensor], step: int) -> None:
        """Do nothing: `NetStack.step` has updated the average."""


def _tensors(batch: Batch) -> dict[str, Any]:
    """Return the tensors of a batch that are not None, by field; a tuple for the random numbers."""
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor) or name == "random"}


def _joined(values: Sequence[Any]) -> Any:
    """Concatenate tensors, or tuples of tensors."""
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    return tuple(torch.cat(list(of_all)) for of_all in zip(*values, strict=True))


def _by_net(value: Any, nets: int) -> Any:
    """Split the first dimension of a tensor, or of a tuple of tensors, (nets · b, …) → (nets, b, …)."""
    return value.unflatten(0, (nets, -1)) if isinstance(value, Tensor) else tuple(_by_net(v, nets) for v in value)


def _convolve(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Convolve under vmap in the precision of autocast, which does not reach convolutions there on a CPU."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    x, weight = x.to(dtype), layer.weight.to(dtype)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    if isinstance(layer, nn.ConvTranspose2d):
        settings: Any = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
        return F.conv_transpose2d(x, weight, bias, *settings)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _normalize(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalize in single precision: under vmap, the statistics can't be of another precision than x."""
    return forward(x.float()).to(x.dtype)
