"""DeepSpeed backend, ZeRO stages 0 to 3."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.process_group import join
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.training.backends.base import clip_limit, make_optimizer, wants_bf16
from polarcast.hpc.training.backends.state import SharedMomentsState, SharedWeightsState, State, WholeState
from polarcast.hpc.training.stragglers import OwnTime
from polarcast.models.forecaster import Forecaster, parameter_count

_LARGEST_BUCKET, _ALIGNED = 50_000_000, 512


class DeepSpeedBackend:
    """Train a model with a DeepSpeed engine."""

    def __init__(self, model: Forecaster, config: TrainConfig, micro_batch: int, world: World) -> None:
        """Wrap a model; see `deepspeed_config` for the settings of DeepSpeed."""
        device = torch.device(device_of(world))
        self.own_time, self.mode = OwnTime(device), ""
        self._stage, self._limit = config.zero_stage, clip_limit(config)
        self._parameters = dict(model.named_parameters())
        # The optimizer state is created where the parameters are, so move them before creating the optimizer.
        optimizer = make_optimizer(model.to(device), config)
        settings = deepspeed_config(config, micro_batch, parameter_count(model), wants_bf16(config, device))
        with deepspeed_for(world) as deepspeed:
            self._engine = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)[0]
        if config.compile:
            self._engine.compile()
        self.state = self._state(optimizer, world)

    def backward(self, batch: Batch, is_last: bool) -> Tensor:
        """See Backend."""
        with self.own_time:
            loss: Tensor = self._engine(batch)
        self._engine.backward(loss)
        if not is_last:
            self._engine.step()
        return loss.detach()

    def update(self, learning_rate: float) -> Tensor:
        """See Backend."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        if self._stage == 0:  # DeepSpeed would clip as well, but does not return the norm
            norm = nn.utils.clip_grad_norm_(self._parameters.values(), self._limit)
            self._engine.step()
            return norm
        self._engine.step()
        return torch.as_tensor(self._engine.get_global_grad_norm())

    def _state(self, optimizer: torch.optim.Optimizer, world: World) -> State:
        if self._stage == 0:
            return WholeState(self._parameters, optimizer)
        if self._stage < 3:
            return SharedMomentsState(self._parameters, self._engine.optimizer)
        return SharedWeightsState(self._parameters, self._engine.optimizer, world.rank, world.size)


def deepspeed_config(config: TrainConfig, micro_batch: int, parameters: int, bf16: bool) -> dict[str, Any]:
    """Return the DeepSpeed configuration.

    Args:
        config: Training settings.
        micro_batch: Samples per forward pass of a process.
        parameters: Parameter count of the model.
        bf16: Whether to autocast to bfloat16.
    """
    # The default buckets are for billions of parameters: 2 GB each, for any model.
    bucket = -(-min(parameters, _LARGEST_BUCKET) // _ALIGNED) * _ALIGNED
    zero: dict[str, Any] = {"stage": config.zero_stage, "reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    if config.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": micro_batch,
        "train_batch_size": config.global_batch,
        "gradient_clipping": clip_limit(config) if config.zero_stage else 0.0,
        "zero_optimization": zero,
        # torch's AdamW also works offloaded; the one of DeepSpeed would be compiled at start-up.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # Not `bf16`: at stage 0, its optimizer takes one step with zero gradients at start-up.
        "torch_autocast": {"enabled": bf16, "dtype": "bfloat16"},
        "steps_per_print": 2**31,
    }


@contextmanager
def deepspeed_for(world: World) -> Iterator[Any]:
    """Import DeepSpeed in the process group of this world.

    DeepSpeed reads the world from environment variables. They are restored on exit, because child processes would
    otherwise identify as a rank of this world.
    """
    variables = {
        "RANK": str(world.rank),
        "WORLD_SIZE": str(world.size),
        "MASTER_ADDR": world.address,
        "MASTER_PORT": str(world.port),
    }
    before = {name: os.environ.get(name) for name in variables}
    join(world, even_alone=True)
    # Stage 3 reads this one at every step; alone, it does not identify a rank.
    os.environ["LOCAL_RANK"] = device_of(world).partition(":")[2] or str(world.local_rank)
    os.environ.update(variables)
    try:
        yield _import_deepspeed()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _import_deepspeed() -> Any:
    on_gpu = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    deepspeed.utils.logger.setLevel(logging.WARNING)
    # DeepSpeed calls deprecated names of torch's collectives; users can't change that.
    warnings.filterwarnings("ignore", "`torch.distributed.*is deprecated", FutureWarning)
    if not on_gpu:
        # Private name: without this, `init_distributed` compiles a shared-memory op for 70 s.
        __compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if on_gpu else "gloo", verbose=False)
    return deepspeed
