"""What all ranks know, brought together."""

import os
from typing import TypeVar

import torch

from polarcast.hpc.world import World

Item = TypeVar("Item")


def gather(item: Item, world: World) -> list[Item]:
    """Every rank's item, in order of rank, on every rank. The process group must have been joined."""
    if world.size == 1:
        return [item]
    items = [item] * world.size
    torch.distributed.all_gather_object(items, item)
    return items


def join(world: World) -> None:
    """Join the process group over gloo, unless that is done or there is nobody to meet."""
    if world.size > 1 and not torch.distributed.is_initialized():
        # torchrun has a store running there already, which only its own variables lead to.
        here = "env://" if "TORCHELASTIC_RUN_ID" in os.environ else f"tcp://{world.address}:{world.port}"
        torch.distributed.init_process_group("gloo", init_method=here, rank=world.rank, world_size=world.size)
