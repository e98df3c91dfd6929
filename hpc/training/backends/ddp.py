"""Backend without DeepSpeed: plain torch, or DistributedDataParallel on several processes."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.process_group import join
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.training.backends.base import clip_limit, in_channels_last, make_optimizer, wants_bf16
from polarcast.hpc.training.backends.state import State, WholeState
from polarcast.hpc.training.stragglers import OwnTime
from polarcast.models.forecaster import Forecaster


class DDPBackend:
    """Train a model with torch; on several processes with DistributedDataParallel."""

    def __init__(
        self, model: Forecaster, config: TrainConfig, accumulation: int, world: World, always_ddp: bool = False
    ) -> None:
        """Wrap a model; `always_ddp` uses DistributedDataParallel even on a single process."""
        device = torch.device(device_of(world))
        self.mode = ""
        self._module: nn.Module = in_channels_last(model, device)
        self._optimizer = make_optimizer(model, config)
        self.state: State = WholeState(dict(model.named_parameters()), self._optimizer)
        self.own_time = OwnTime(device)
        self._accumulation, self._limit = accumulation, clip_limit(config)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=wants_bf16(config, device))
        if config.compile:
            model.compile()
        if world.size > 1 or always_ddp:
            join(world, even_alone=True)
            self._module = DistributedDataParallel(model, gradient_as_bucket_view=True)

    def backward(self, batch: Batch, is_last: bool) -> Tensor:
        """See Backend."""
        skips_sync = isinstance(self._module, DistributedDataParallel) and not is_last
        with self._module.no_sync() if skips_sync else nullcontext():  # type: ignore[operator]
            with self._autocast, self.own_time:
                loss: Tensor = self._module(batch)
            (loss / self._accumulation).backward()
        return loss.detach()

    def update(self, learning_rate: float) -> Tensor:
        """See Backend."""
        self._optimizer.param_groups[0]["lr"] = learning_rate
        norm = nn.utils.clip_grad_norm_(self._module.parameters(), self._limit)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return norm
