"""Process group: initialization and collectives."""

import os
from typing import TypeVar

import torch
from torch import nn

from polarcast.hpc.distributed.network_interface import name_interface
from polarcast.hpc.distributed.world import World, device_of

Item = TypeVar("Item")


def join(world: World, even_alone: bool = False) -> None:
    """Initialize the process group, unless it exists: gloo for CPU tensors, NCCL for GPU tensors.

    Args:
        world: Rank and size of this process's job.
        even_alone: Whether to create a group for a single process, too, as model wrappers need it.
    """
    if torch.distributed.is_initialized() or (world.size == 1 and not even_alone):
        return
    backend = "gloo"
    if (device := device_of(world)) != "cpu":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    if world.size == 1:
        # A single process needs no TCP port, which another process could take.
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        return
    name_interface(world)
    # torchrun already runs a store at this address; it is only reachable through its environment variables.
    address = "env://" if "TORCHELASTIC_RUN_ID" in os.environ else f"tcp://{world.address}:{world.port}"
    torch.distributed.init_process_group(backend, init_method=address, rank=world.rank, world_size=world.size)


def gather(item: Item, world: World) -> list[Item]:
    """Return the items of all ranks, in order of rank. Collective; needs the process group."""
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
    """Average the running statistics of batch normalization over all ranks. Collective.

    Each rank computes them from its own samples, so the models would otherwise differ between ranks. Those of a frozen
    model are equal on all ranks, and are not changed.
    """
    if world.size == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and any(True for _ in module.parameters(recurse=False)):
            for statistic in (module.running_mean, module.running_var):
                if statistic is not None:
                    torch.distributed.all_reduce(statistic)
                    statistic /= world.size
