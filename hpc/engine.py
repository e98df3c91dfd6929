"""The DeepSpeed engine: one optimizer step over all processes."""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput, WorkFailed
from polarcast.hpc.config import TrainConfig
from polarcast.hpc.world import World, device_name, device_of
from polarcast.models.forecaster import Forecaster

_NAN_ADVICE = "lower train.learning_rate, or look at these samples with: polarcast data check"


class Engine:
    """A model under DeepSpeed (ZeRO stage 0), stepping on micro-batches of batches."""

    def __init__(self, model: Forecaster, config: TrainConfig, world: World) -> None:
        """Wrap the model. Every process of the world must do so, with the same weights.

        Args:
            model: What to train; its parameters are the engine's.
            config: Batch sizes and optimizer settings.
            world: This process's place.

        Raises:
            BadInput: the global batch can't be divided among the processes.
        """
        self.world, self.model = world, model
        self.device = torch.device(device_of(world))
        self.micro_batch, self.accumulation = micro_batches(config, world.size)
        # torch's own AdamW: DeepSpeed's fused one is a C++ op that would be compiled at start-up.
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        with deepspeed_for(world) as deepspeed:
            self._engine = deepspeed.initialize(
                model=model, optimizer=self.optimizer, config=self._deepspeed_config(config)
            )[0]

    def step(self, batches: Sequence[Batch], learning_rate: float) -> float:
        """One optimizer step; returns this process's mean loss over its micro-batches.

        Args:
            batches: This process's micro-batches, `accumulation` of them.
            learning_rate: Of this step.

        Raises:
            ValueError: the number of micro-batches is not `accumulation`.
            WorkFailed: the loss is not finite; names the rank and the samples.
        """
        if len(batches) != self.accumulation:
            raise ValueError(f"expected {self.accumulation} micro-batches, got {len(batches)}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        total = 0.0
        for batch in batches:
            loss: Tensor = self._engine(batch.to(self.device))
            self._engine.backward(loss)
            self._engine.step()
            total += float(loss.detach())
            if not math.isfinite(total):
                raise WorkFailed(
                    f"loss {float(loss.detach())} on rank {self.world.rank} for {_named(batch)}; {_NAN_ADVICE}"
                )
        return total / self.accumulation

    def mean_over_ranks(self, value: float) -> float:
        """Mean of a number over all processes."""
        if self.world.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return float(tensor) / self.world.size

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world.size > 1:
            torch.distributed.barrier()

    def _deepspeed_config(self, config: TrainConfig) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            "train_batch_size": config.global_batch,
            "gradient_clipping": config.clip_norm,
            "zero_optimization": {"stage": 0},
            # Not `bf16`: at stage 0 its optimizer takes one step on zero gradients at start-up.
            "torch_autocast": {"enabled": self.device.type == "cuda", "dtype": "bfloat16"},
            "steps_per_print": 2**31,
        }


def _named(batch: Batch) -> str:
    """The samples of a batch, as the archive names their events and first frames."""
    pairs = zip(batch.event.tolist(), batch.frame.tolist(), strict=True)
    return ", ".join(f"{event:03d}-{frame:03d}" for event, frame in pairs)


def micro_batches(config: TrainConfig, world_size: int) -> tuple[int, int]:
    """Micro-batch size and accumulation steps that make up the global batch on this many processes.

    Raises:
        BadInput: the global batch can't be divided among the processes.
    """
    if config.global_batch % world_size:
        raise BadInput(
            f"{config.global_batch} samples can't be divided among {world_size} processes",
            "train.global_batch",
            f"give a multiple of {world_size}",
        )
    share = config.global_batch // world_size
    micro = max(m for m in range(1, min(share, config.micro_batch) + 1) if share % m == 0)
    return micro, share // micro


@contextmanager
def deepspeed_for(world: World) -> Iterator[Any]:
    """DeepSpeed, imported and joined to the process group (gloo, or NCCL on GPUs).

    It learns of the world through environment variables. They are put back afterwards: whatever this process starts
    later would take itself for a rank of this world.
    """
    told = {
        "RANK": str(world.rank),
        "WORLD_SIZE": str(world.size),
        "LOCAL_RANK": str(world.local_rank),
        "MASTER_ADDR": world.address,
        "MASTER_PORT": str(world.port),
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield _start_deepspeed(world)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start_deepspeed(world: World) -> Any:
    on_gpu = device_name() == "cuda"
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    deepspeed.utils.logger.setLevel(logging.WARNING)
    if not on_gpu:
        # A private name, in this one place: without it `init_distributed` compiles a shared-memory op for 70 s.
        __compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if on_gpu else "gloo"
    if world.size == 1 and not torch.distributed.is_initialized():
        # Alone there is nobody to meet: no port, which another process could take first.
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    deepspeed.init_distributed(backend, verbose=False)
    return deepspeed
