"""Backend interface, and settings that all backends share."""

from typing import Protocol

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.training.backends.state import State
from polarcast.hpc.training.stragglers import OwnTime


class Backend(Protocol):
    """A model and its optimizer, updated by all processes together."""

    state: State
    own_time: OwnTime

    def backward(self, batch: Batch, is_last: bool) -> Tensor:
        """Accumulate the gradients of one micro-batch.

        Args:
            batch: Micro-batch on the device.
            is_last: Whether the optimizer step follows.

        Returns:
            The detached loss.
        """
        ...

    def update(self, learning_rate: float) -> float:
        """Step the optimizer; return the norm of the mean gradients over all processes, before clipping."""
        ...


def make_optimizer(model: torch.nn.Module, config: TrainConfig, on_gpu: bool) -> torch.optim.AdamW:
    """Create torch's AdamW; the fused one of DeepSpeed is a C++ op that would be compiled at start-up."""
    return torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=on_gpu or None
    )


def wants_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Return whether to autocast to bfloat16; weights, gradients and moments stay fp32."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


def clip_limit(config: TrainConfig) -> float:
    """Return the maximum gradient norm; without clipping, the fp32 maximum, so that the norm is still computed."""
    return config.clip_norm or torch.finfo(torch.float32).max
