"""The process group: where all ranks of a job meet, and what they know brought together."""

import os
from typing import TypeVar

import torch
from torch import nn

from polarcast.hpc.distributed.network_interface import name_interface
from polarcast.hpc.distributed.world import World, device_of

Item = TypeVar("Item")


def join(world: World, even_alone: bool = False) -> None:
    """Join the process group, unless that is done: gloo for what is in memory, NCCL for what is on GPUs.

    Args:
        world: This process's place.
        even_alone: Whether a process that has nobody to meet needs a group, too; wrappers of models do.
    """
    if torch.distributed.is_initialized() or (world.size == 1 and not even_alone):
        return
    backend = "gloo"
    if (device := device_of(world)) != "cpu":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    if world.size == 1:
        # Alone there is nobody to meet: no port, which another process could take first.
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        return
    name_interface(world)
    # torchrun has a store running there already, which only its own variables lead to.
    here = "env://" if "TORCHELASTIC_RUN_ID" in os.environ else f"tcp://{world.address}:{world.port}"
    torch.distributed.init_process_group(backend, init_method=here, rank=world.rank, world_size=world.size)


def gather(item: Item, world: World) -> list[Item]:
    """Every rank's item, in order of rank, on every rank. The process group must have been joined."""
    if world.size == 1:
        return [item]
    items = [item] * world.size
    torch.distributed.all_gather_object(items, item)
    return items


def barrier(world: World) -> None:
    """Wait for all ranks."""
    if world.size > 1:
        torch.distributed.barrier()


def share_statistics(model: nn.Module, world: World) -> None:
    """Give all ranks the mean of their batch normalisations' running statistics; collective.

    Each has gathered them from its own share of the samples: judged by its own, a model would be another on each rank.
    Those of a frozen model are the same everywhere, and stay as they are.
    """
    if world.size == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and any(True for _ in module.parameters(recurse=False)):
            for statistic in (module.running_mean, module.running_var):
                if statistic is not None:
                    torch.distributed.all_reduce(statistic)
                    statistic /= world.size
