"""Choose the micro-batch size of a process; it affects memory and speed, but not the training result."""

import os

import torch

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.config.schema import AUTO, TrainConfig
from polarcast.hpc.distributed.process_group import gather, join
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.estimate import count, example_batch, needed_by

_FILLED = 0.8
"""Fraction of the free memory to fill."""


def choose_micro_batch(resolved: ResolvedConfig, manifest: Manifest, world: World, nets: int = 1) -> int:
    """Return the largest micro-batch size allowed by `train.micro_batch`, or by memory if it is auto.

    It divides the samples of a process in a step, so that all micro-batches are equal. With auto, `nets` nets that the
    process trains at once share the memory.

    Raises:
        BadInput: a global batch that can't be divided among the processes, or one sample does not fit in memory.
    """
    config = resolved.run
    share = share_of(config.train, world.size)
    if config.train.micro_batch != AUTO:
        return max(divisors(share, int(config.train.micro_batch)))
    join(world)
    # Use the minimum over all processes: unequal micro-batches would mean unequal numbers of collective calls.
    fits = min(gather(_largest_that_fits(resolved, manifest, world, share, nets), world))
    if not fits:
        raise BadInput("one sample does not fit in memory", "train.micro_batch", "see: polarcast estimate")
    return fits


def share_of(config: TrainConfig, world_size: int) -> int:
    """Return the samples of one process in a step.

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
    """Return the divisors of `share`, up to `most`."""
    return [n for n in range(1, min(share, most) + 1) if share % n == 0]


def _largest_that_fits(resolved: ResolvedConfig, manifest: Manifest, world: World, share: int, nets: int) -> int:
    candidates = divisors(share, share)
    if device_of(world) != "cpu":
        return _largest_on_gpu(resolved, manifest, world, candidates, nets)
    counted = count(resolved, manifest.shape)
    free = _FILLED * _available_bytes() / world.local_size / nets
    needed = {n: needed_by(counted, resolved.run.train, world.size, n).total for n in candidates}
    return max((n for n in candidates if needed[n] <= free), default=0)


def _largest_on_gpu(
    resolved: ResolvedConfig, manifest: Manifest, world: World, candidates: list[int], nets: int
) -> int:
    """Take steps of increasing size until one does not fit; a dummy tensor takes the optimizer's memory."""
    device, best, train = device_of(world), 0, resolved.run.train
    model = build_model(resolved).to(device)
    needed = needed_by(count(resolved, manifest.shape), train, world.size, 1)
    torch.cuda.reset_peak_memory_stats(device)
    free = _FILLED * torch.cuda.mem_get_info(device)[1] / nets
    try:
        ballast = torch.empty(needed.optimizer + needed.average, dtype=torch.uint8, device=device)
        for n in candidates:
            with torch.autocast("cuda", torch.bfloat16, enabled=train.precision != "fp32"):
                loss = model.loss(example_batch(resolved.inputs, manifest.shape, n).to(device))
            loss.backward()
            if torch.cuda.max_memory_allocated(device) > free:
                break
            best = n
        del ballast
    except torch.cuda.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()
    return best


def _available_bytes() -> int:
    """Return the memory available without swapping, in bytes."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
