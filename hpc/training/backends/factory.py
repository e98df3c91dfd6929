"""Create the backend selected in the configuration."""

import logging
import platform

import torch

from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.training.backends.base import Backend, wants_bf16
from polarcast.hpc.training.backends.ddp import DDPBackend
from polarcast.hpc.training.backends.graphed import GraphedBackend, wants_graphs
from polarcast.models.forecaster import Forecaster

_log = logging.getLogger("polarcast")
_X86 = ("x86_64", "AMD64")


def make_backend(model: Forecaster, config: TrainConfig, micro_batch: int, world: World) -> Backend:
    """Create the backend `train.engine`; the weights of the model must be the same on every process.

    On one GPU, nothing is sharded or exchanged, and a step computes the same with every backend: it is then launched
    as CUDA graphs, unless `train.graphs` is off.
    """
    if world.is_first and emulates_bf16(config, torch.device(device_of(world))):
        _log.warning("polarcast: this CPU emulates bf16, which is slower than fp32; set train.precision=fp32")
    accumulation = config.global_batch // world.size // micro_batch
    if wants_graphs(config, world):
        return GraphedBackend(model, config, accumulation, world)
    if config.engine == "deepspeed":
        from polarcast.hpc.training.backends.deepspeed import DeepSpeedBackend

        return DeepSpeedBackend(model, config, micro_batch, world)
    return DDPBackend(model, config, accumulation, world)


def emulates_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Return whether training would use bf16 on an x86 CPU without instructions for it."""
    if device.type != "cpu" or not wants_bf16(config, device) or platform.machine() not in _X86:
        return False
    return not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
