"""How many samples a process computes at once: the global batch is what counts, this is how it is made up."""

import os

import torch

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.config.validate import AUTO
from polarcast.hpc.distributed.process_group import gather, join
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.estimate import count, example_batch, needed_by

_FILLED = 0.8
"""Of the memory that is free."""


def choose_micro_batch(resolved: ResolvedConfig, manifest: Manifest, world: World) -> int:
    """The largest divisor of a process's share of the global batch that `train.micro_batch` allows, or memory does.

    Raises:
        BadInput: the global batch can't be divided among the processes, or not even one sample fits.
    """
    config = resolved.run
    share = share_of(config.train, world.size)
    if config.train.micro_batch != AUTO:
        return max(divisors(share, int(config.train.micro_batch)))
    join(world)
    # All take what fits the smallest: unequal micro-batches would be unequal numbers of collective calls.
    fits = min(gather(_largest_that_fits(resolved, manifest, world, share), world))
    if not fits:
        raise BadInput("not even one sample fits the memory", "train.micro_batch", "see: polarcast estimate")
    return fits


def share_of(config: TrainConfig, world_size: int) -> int:
    """Samples of one process in a step.

    Raises:
        BadInput: the global batch can't be divided among the processes.
    """
    if config.global_batch % world_size:
        raise BadInput(
            f"{config.global_batch} samples can't be divided among {world_size} processes",
            "train.global_batch",
            f"give a multiple of {world_size}",
        )
    return config.global_batch // world_size


def divisors(share: int, most: int) -> list[int]:
    """The sizes a process's share of the global batch can be cut into, up to the largest allowed."""
    return [n for n in range(1, min(share, most) + 1) if share % n == 0]


def _largest_that_fits(resolved: ResolvedConfig, manifest: Manifest, world: World, share: int) -> int:
    candidates = divisors(share, share)
    if device_of(world) != "cpu":
        return _tried_on_gpu(resolved, manifest, world, candidates)
    counted = count(resolved, manifest.shape)
    free = _FILLED * _available_bytes() / world.local_size
    needed = {n: needed_by(counted, resolved.run.train, world.size, n).total for n in candidates}
    return max((n for n in candidates if needed[n] <= free), default=0)


def _tried_on_gpu(resolved: ResolvedConfig, manifest: Manifest, world: World, candidates: list[int]) -> int:
    """Real steps of growing size, beside as many bytes as the optimizer will hold, until one does not fit."""
    device, best, train = device_of(world), 0, resolved.run.train
    model = build_model(resolved).to(device)
    needed = needed_by(count(resolved, manifest.shape), train, world.size, 1)
    try:
        ballast = torch.empty(needed.optimizer + needed.average, dtype=torch.uint8, device=device)
        for n in candidates:
            with torch.autocast("cuda", torch.bfloat16, enabled=train.precision != "fp32"):
                loss = model.loss(example_batch(resolved.inputs, manifest.shape, n).to(device))
            loss.backward()
            if torch.cuda.max_memory_allocated(device) > _FILLED * torch.cuda.mem_get_info(device)[1]:
                break
            best = n
        del ballast
    except torch.cuda.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()
    return best


def _available_bytes() -> int:
    """Memory that can be had without swapping."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
