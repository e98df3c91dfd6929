"""Estimate the cost of a run: parameters, FLOPs, memory by ZeRO stage, read rate and GPU-hours.

The model is built and stepped on meta tensors, which have shapes but no values.
"""

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.activation_checkpointing import blocks_of
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count

STAGES = (0, 1, 2, 3)
MOST_GPUS = 1024
_FP32 = 4
_ADAM_MOMENTS = 2
_HALF = 2


@dataclass(frozen=True)
class Counted:
    """Cost of one sample in one training step."""

    parameters: int
    flops: int
    """Forward and backward pass; a multiply-add counts as two. Only matrix products and convolutions."""
    activation_bytes: int
    """fp32 activations saved for the backward pass. With `train.checkpoint_activations`: the inputs of blocks, and the
    activations within the largest block."""
    sample_bytes: int
    """Bytes read from the shards, float16."""


@dataclass(frozen=True)
class Memory:
    """Memory on one GPU, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.weights + self.gradients + self.optimizer + self.average + self.activations


@dataclass(frozen=True)
class Fit:
    """Smallest setup that fits: ZeRO stage, number of GPUs and micro-batch size."""

    stage: int
    gpus: int
    micro_batch: int
    memory: Memory


def count(resolved: ResolvedConfig, shape: tuple[int, int]) -> Counted:
    """Count the cost of one sample in one training step, for fields of `shape` (y, x) pixels."""
    with torch.device("meta"):
        model = build_model(resolved)
        batch = example_batch(resolved.inputs, shape)
    kept = _Kept({p.untyped_storage()._cdata for p in model.parameters()})
    blocks = _BlockMemory(model, kept) if resolved.run.train.checkpoint_activations else None
    with FlopCounterMode(display=False) as counter, kept:
        loss = model.loss(batch)
        forward = counter.get_total_flops()
        loss.backward()
    flops = counter.get_total_flops() + (forward if blocks else 0)
    fields = [field.numel() for field in (batch.radar, batch.rain, batch.target_zh) if field is not None]
    return Counted(parameter_count(model), flops, blocks.needed() if blocks else kept.bytes, _HALF * sum(fields))


@dataclass(frozen=True)
class _Network:
    """A configuration that equals those of other runs of the same network, such as those of other seeds."""

    resolved: ResolvedConfig = field(compare=False)
    key: tuple[Any, ...]

    @classmethod
    def of(cls, resolved: ResolvedConfig) -> "_Network":
        def key_of(one: ResolvedConfig) -> tuple[Any, ...]:
            recomputes = one.run.train.checkpoint_activations
            return one.model, repr(one.settings), repr(one.inputs), recomputes, *map(key_of, one.bases)

        return cls(resolved, key_of(resolved))


def training_flops(resolved: ResolvedConfig, shape: tuple[int, int]) -> int:
    """Return the FLOPs of one sample in one training step, counted once in a process for all runs of a network."""
    return _training_flops(_Network.of(resolved), shape)


@lru_cache(maxsize=256)
def _training_flops(network: _Network, shape: tuple[int, int]) -> int:
    return count(network.resolved, shape).flops


def forecast_flops(resolved: ResolvedConfig, shape: tuple[int, int]) -> int:
    """Return the FLOPs of one forecast (one sample, one member); 0 for a model without a network.

    They are counted once in a process for all runs of a network.
    """
    return _forecast_flops(_Network.of(resolved), shape) if resolved.model.trained or resolved.bases else 0


@lru_cache(maxsize=256)
def _forecast_flops(network: _Network, shape: tuple[int, int]) -> int:
    resolved = network.resolved
    with torch.device("meta"):
        model = build_model(resolved).eval()
        batch = example_batch(resolved.inputs, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.forecast(batch)
    return counter.get_total_flops()


def memory(
    counted: Counted, stage: int, gpus: int, micro_batch: int, average: bool = False, offload: bool = False
) -> Memory:
    """Compute the memory per GPU at a ZeRO stage (Rajbhandari et al. 2020, §5).

    Stage 1 shards the optimizer state over the GPUs, stage 2 also the gradients, stage 3 also the weights. Weights,
    gradients and moments are fp32, as with torch_autocast. From stage 1, the optimizer has a copy of its shard of the
    weights. Activations are fp32; bf16 needs half.

    Args:
        counted: Cost of one sample.
        stage: ZeRO stage.
        gpus: Number of GPUs to shard over.
        micro_batch: Samples per forward pass of a GPU.
        average: Whether to keep a moving average of the weights.
        offload: Whether to keep the optimizer state in host memory.
    """
    whole = _FP32 * counted.parameters
    share = -(-whole // gpus)
    optimizer = (_ADAM_MOMENTS + 1) * share if stage >= 1 else _ADAM_MOMENTS * whole
    return Memory(
        weights=share if stage >= 3 else whole,
        gradients=share if stage >= 2 else whole,
        optimizer=0 if offload else optimizer,
        average=(share if stage >= 3 else whole) if average else 0,
        activations=micro_batch * counted.activation_bytes,
    )


def needed_by(counted: Counted, train: TrainConfig, gpus: int, micro_batch: int) -> Memory:
    """Compute the memory per GPU of a run as configured."""
    average = train.average_decay > 0
    return memory(counted, train.zero_stage, gpus, micro_batch, average, train.offload_optimizer)


def smallest(
    counted: Counted, global_batch: int, gpu_bytes: float, average: bool = False, offload: bool = False
) -> Fit | None:
    """Find the fewest GPUs that fit the run, at the lowest stage, with the largest micro-batch.

    Args:
        counted: Cost of one sample.
        global_batch: Samples per optimizer step.
        gpu_bytes: Usable memory per GPU, in bytes.
        average: Whether to keep a moving average of the weights.
        offload: Whether to keep the optimizer state in host memory.

    Returns:
        The setup, or None if none fits.
    """
    divisors = [n for n in range(1, min(global_batch, MOST_GPUS) + 1) if global_batch % n == 0]
    for gpus in divisors:
        for stage in STAGES if gpus > 1 else STAGES[:1]:
            for micro in reversed([n for n in divisors if (global_batch // gpus) % n == 0]):
                needed = memory(counted, stage, gpus, micro, average, offload and stage > 0)
                if needed.total <= gpu_bytes:
                    return Fit(stage, gpus, micro, needed)
    return None


def estimate(resolved: ResolvedConfig, shape: tuple[int, int], gpu_gib: float, tflops: float) -> dict[str, Any]:
    """Estimate the cost of a run, as plain values.

    Args:
        resolved: Configuration of the run.
        shape: Grid size in pixels, (y, x).
        gpu_gib: Usable memory per GPU, in GiB.
        tflops: Sustained speed of one GPU on a similar model, in TFLOP/s.

    Raises:
        BadInput: a model that is not trained by gradient descent.
    """
    config = resolved.run
    if not resolved.model.trained:
        raise BadInput(f"{config.model['name']} is not trained by gradient descent", "model.name", "choose a network")
    counted = count(resolved, shape)
    batch, steps = config.train.global_batch, config.train.steps
    extras = {"average": config.train.average_decay > 0, "offload": config.train.offload_optimizer}
    fit = smallest(counted, batch, gpu_gib * 2**30, **extras)
    seconds = counted.flops * batch / (tflops * 1e12)
    gpus = fit.gpus if fit else 1
    # Sharding needs two or more GPUs, so compare the stages on at least two.
    several = max(gpus, 2)
    micro = min(fit.micro_batch, max(1, batch // several)) if fit else 1
    of_stages = {stage: memory(counted, stage, several, micro, **extras) for stage in STAGES}
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


def example_batch(inputs: InputSpec, shape: tuple[int, int], samples: int = 1) -> Batch:
    """Create a batch of zeros in the input shapes of a model, on torch's default device."""
    variables, heights = inputs.variables, inputs.heights_km
    radar = torch.zeros(samples, inputs.frames, len(variables), len(heights), *shape)
    target_zh = torch.zeros(samples, inputs.lead_frames, len(heights), *shape) if inputs.lead_frames else None
    rain = None if inputs.lead_frames else torch.zeros(samples, inputs.frames, *shape)
    # These seed random draws, so they need values even on the meta device.
    number = torch.zeros(samples, dtype=torch.int64, device="cpu")
    return Batch(radar, rain, number, number, variables, heights, target_zh=target_zh)


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Count the bytes saved for the backward pass, each storage once, without the parameters."""

    def __init__(self, known: set[int]) -> None:
        self._known, self._alive, self.bytes = known, list[Tensor](), 0
        super().__init__(self._pack, lambda tensor: tensor)

    def has(self, storage: torch.UntypedStorage) -> bool:
        """Return whether a storage is already counted, or holds parameters."""
        return storage._cdata in self._known

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            # Keep the tensor alive, or a later storage could reuse its address.
            self._alive.append(tensor)
            self.bytes += storage.nbytes()
        return tensor


class _BlockMemory:
    """Memory with recomputed blocks: everything outside the blocks, their inputs, and the largest block."""

    def __init__(self, model: Forecaster, kept: _Kept) -> None:
        self._kept, self._before = kept, list[int]()
        self._within, self._largest, self._inputs = 0, 0, dict[int, int]()
        for block in blocks_of(model):
            block.register_forward_pre_hook(self._enter)
            block.register_forward_hook(self._leave)

    def needed(self) -> int:
        """Return the bytes needed; call this after the forward pass."""
        return self._kept.bytes - self._within + self._largest + sum(self._inputs.values())

    def _enter(self, _: Any, inputs: tuple[Tensor, ...]) -> None:
        for tensor in inputs:
            storage = tensor.untyped_storage()
            if not self._kept.has(storage):
                self._inputs[storage._cdata] = storage.nbytes()
        self._before.append(self._kept.bytes)

    def _leave(self, *_: Any) -> None:
        within = self._kept.bytes - self._before.pop()
        self._within += within
        self._largest = max(self._largest, within)
