"""What a way to step a model must offer, and which there are."""

from typing import Protocol

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.training.backends.state import State
from polarcast.hpc.training.stragglers import OwnTime


class Backend(Protocol):
    """A model and its optimizer, stepped by all processes together."""

    state: State
    own_time: OwnTime

    def backward(self, batch: Batch, is_last: bool) -> Tensor:
        """Loss and gradients of one micro-batch; returns the loss, detached. `is_last`: the optimizer steps next."""
        ...

    def update(self, learning_rate: float) -> float:
        """One step of the optimizer on the mean gradients; returns their norm over all processes, before clipping."""
        ...


def make_optimizer(model: torch.nn.Module, config: TrainConfig, on_gpu: bool) -> torch.optim.AdamW:
    """torch's own AdamW: DeepSpeed's fused one is a C++ op that would be compiled at start-up."""
    return torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=on_gpu or None
    )


def wants_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the network computes in bfloat16; weights, gradients and moments stay fp32."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


def clip_limit(config: TrainConfig) -> float:
    """Largest norm of the gradients; without a limit one that is never reached, so that the norm is still computed."""
    return config.clip_norm or torch.finfo(torch.float32).max
