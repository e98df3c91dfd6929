"""Backend interface, and settings that all backends share."""

from typing import Protocol

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.training.backends.state import State
from polarcast.hpc.training.stragglers import OwnTime
from polarcast.models.forecaster import Forecaster


class Backend(Protocol):
    """A model and its optimizer, updated by all processes together."""

    state: State
    own_time: OwnTime
    mode: str
    """How steps run: by CUDA graphs, or why not; empty if that was not tried, or is not known before the first one."""

    def backward(self, batch: Batch, is_last: bool) -> Tensor:
        """Accumulate the gradients of one micro-batch.

        Args:
            batch: Micro-batch on the device.
            is_last: Whether the optimizer step follows.

        Returns:
            The detached loss.
        """
        ...

    def update(self, learning_rate: float) -> Tensor:
        """Step the optimizer; return the norm of the mean gradients over all processes, before clipping.

        It is a scalar tensor, on the device where that saves waiting for it.
        """
        ...


def make_optimizer(
    model: torch.nn.Module, config: TrainConfig, rate: Tensor | None = None, capturable: bool = False
) -> torch.optim.AdamW:
    """Create torch's AdamW; the fused one of DeepSpeed is a C++ op that would be compiled at start-up.

    Args:
        model: Module of the parameters.
        config: Training settings.
        rate: Learning rate as a tensor that may be filled later, instead of the configured number.
        capturable: Whether a CUDA graph may contain the step.
    """
    first = config.learning_rate if rate is None else rate
    decay = config.weight_decay
    # Fused: one kernel for all parameters, on CPUs, too; there it takes less than a third of the time.
    return torch.optim.AdamW(model.parameters(), lr=first, weight_decay=decay, fused=True, capturable=capturable)


def in_channels_last(model: Forecaster, device: torch.device) -> Forecaster:
    """Move a model to a device; on a GPU with channels last, the layout of activations.

    Otherwise cuDNN converts the weights of every convolution in every step.
    """
    model.to(device)
    return model.to(memory_format=torch.channels_last) if device.type == "cuda" else model  # type: ignore[call-overload]


def wants_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Return whether to autocast to bfloat16; weights, gradients and moments stay fp32."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


def clip_limit(config: TrainConfig) -> float:
    """Return the maximum gradient norm; without clipping, the fp32 maximum, so that the norm is still computed."""
    return config.clip_norm or torch.finfo(torch.float32).max
