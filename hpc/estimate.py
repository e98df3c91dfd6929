"""What a run will need, known before it starts: parameters, FLOPs, memory by ZeRO stage, reads, GPU-hours.

Nothing is computed: the model is built and stepped on tensors that have shapes but no values.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from polarcast.data.batch import Batch
from polarcast.hpc.build import build_model
from polarcast.hpc.config import RunConfig
from polarcast.models.forecaster import parameter_count

STAGES = (0, 1, 2, 3)
MOST_GPUS = 1024
_FP32 = 4
_ADAM_MOMENTS = 2
_HALF = 2


@dataclass(frozen=True)
class Counted:
    """Of one sample in one training step."""

    parameters: int
    flops: int
    """Forward and backward, a multiply-add counted as two (matrix products and convolutions only)."""
    activation_bytes: int
    """Kept from the forward pass for the backward pass, fp32."""
    sample_bytes: int
    """Read from the shards, float16."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Fit:
    """The smallest way that fits: ZeRO stage, GPUs, and samples a GPU computes at once."""

    stage: int
    gpus: int
    micro_batch: int
    memory: Memory


def count(config: RunConfig, size: int) -> Counted:
    """Count one training step of one sample of `size`² pixels."""
    with torch.device("meta"):
        model = build_model(config)
        batch = _batch(config, size)
    kept = _Kept({p.untyped_storage()._cdata for p in model.parameters()})
    with FlopCounterMode(display=False) as counter, kept:
        model.loss(batch).backward()
    fields = batch.radar.numel() + batch.rain_rate.numel()
    return Counted(parameter_count(model), counter.get_total_flops(), kept.bytes, _HALF * fields)


def memory(counted: Counted, stage: int, gpus: int, micro_batch: int) -> Memory:
    """Bytes on each GPU under a ZeRO stage (Rajbhandari et al. 2020, §5): 1 shares the optimizer's state among the
    GPUs, 2 the gradients, too, 3 the weights, too. Weights, gradients and moments are fp32, as torch_autocast has them.
    """
    whole = _FP32 * counted.parameters
    share = -(-whole // gpus)
    return Memory(
        weights=share if stage >= 3 else whole,
        gradients=share if stage >= 2 else whole,
        optimizer=_ADAM_MOMENTS * (share if stage >= 1 else whole),
        activations=micro_batch * counted.activation_bytes,
    )


def smallest(counted: Counted, global_batch: int, gpu_bytes: float) -> Fit | None:
    """The fewest GPUs that hold the run, at the lowest stage that does, with the largest micro-batch that fits."""
    divisors = [n for n in range(1, min(global_batch, MOST_GPUS) + 1) if global_batch % n == 0]
    for gpus in divisors:
        for stage in STAGES if gpus > 1 else STAGES[:1]:
            for micro in reversed([n for n in divisors if (global_batch // gpus) % n == 0]):
                needed = memory(counted, stage, gpus, micro)
                if needed.total <= gpu_bytes:
                    return Fit(stage, gpus, micro, needed)
    return None


def estimate(config: RunConfig, size: int, gpu_gib: float, tflops: float) -> dict[str, Any]:
    """Everything, as plain values.

    Args:
        config: The run.
        size: Pixels a side.
        gpu_gib: Memory of one GPU that may be filled, in GiB.
        tflops: What one GPU is known to reach on such a model, in TFLOP/s.
    """
    counted = count(config, size)
    batch, steps = config.train.global_batch, config.train.steps
    fit = smallest(counted, batch, gpu_gib * 2**30)
    seconds = counted.flops * batch / (tflops * 1e12)
    gpus = fit.gpus if fit else 1
    # One GPU has nothing to share: the stages are told for two at least.
    several = max(gpus, 2)
    micro = min(fit.micro_batch, max(1, batch // several)) if fit else 1
    of_stages = {stage: memory(counted, stage, several, micro) for stage in STAGES}
    return {
        "counted": asdict(counted),
        "flops_per_step": counted.flops * batch,
        "stages": {stage: {**asdict(m), "total": m.total} for stage, m in of_stages.items()},
        "stages_gpus": several,
        "stages_micro_batch": micro,
        "fit": asdict(fit) if fit else None,
        "reads_gb_per_second": counted.sample_bytes * batch / (seconds / gpus) / 1e9,
        "gpu_hours": seconds * steps / 3600,
    }


def _batch(config: RunConfig, size: int) -> Batch:
    variables, heights = config.variables(), tuple(config.data.heights_km)
    radar = torch.zeros(1, 1, len(variables), len(heights), size, size)
    number = torch.zeros(1, dtype=torch.int64)
    return Batch(radar, torch.zeros(1, 1, size, size), number, number, variables, heights)


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Sums the storages that the backward pass will need, each once, without the model's own parameters."""

    def __init__(self, known: set[int]) -> None:
        self._known, self._alive, self.bytes = known, list[Tensor](), 0
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            # Kept alive, or the next storage could get its name.
            self._alive.append(tensor)
            self.bytes += storage.nbytes()
        return tensor
