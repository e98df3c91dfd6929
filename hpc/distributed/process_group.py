"""Process group: initialization and collectives."""

import os
from typing import TypeVar

import torch
from torch import nn

from polarcast.data.errors import WorkFailed
from polarcast.hpc.distributed.message import pack, unpack
from polarcast.hpc.distributed.network_interface import name_interface
from polarcast.hpc.distributed.rendezvous import meeting_store
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
    name_interface(world)
    if world.size > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        # torchrun already runs a store, which is only reachable through its environment variables.
        torch.distributed.init_process_group(backend, init_method="env://", rank=world.rank, world_size=world.size)
        return
    # A single process needs no port, which another process could take.
    store = torch.distributed.HashStore() if world.size == 1 else meeting_store(world)  # type: ignore[attr-defined]
    torch.distributed.init_process_group(backend, store=store, rank=world.rank, world_size=world.size)


def gather(item: Item, world: World) -> list[Item]:
    """Return the items of all ranks, in order of rank; see `pack` for what they may hold. Collective.

    Raises:
        WorkFailed: a rank sent something else, which only a stranger in the process group does.
    """
    if world.size == 1:
        return [item]
    mine = torch.frombuffer(bytearray(pack(item)), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(world.size)]
    torch.distributed.all_gather(lengths, torch.tensor([len(mine)]))
    longest = max(int(length) for length in lengths)
    padded = [torch.empty(longest, dtype=torch.uint8) for _ in range(world.size)]
    torch.distributed.all_gather(padded, torch.nn.functional.pad(mine, (0, longest - len(mine))))
    try:
        contents = zip(padded, lengths, strict=True)
        return [unpack(content[: int(length)].numpy().tobytes()) for content, length in contents]
    except ValueError as error:
        raise WorkFailed(f"the ranks can't read each other's messages: {error}") from None


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
