"""Activation checkpointing: blocks of a model forget what they computed, and compute it again for the backward pass."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Forecaster


def checkpoint_activations(model: Forecaster) -> None:
    """Have a model's blocks keep their inputs only; names of parameters stay.

    Raises:
        BadInput: the model names no blocks.
    """
    found = blocks_of(model)
    if not found:
        raise BadInput(
            f"{type(model).__name__} has no blocks to recompute", "train.checkpoint_activations", "leave it off"
        )
    for block in found:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def blocks_of(model: Forecaster) -> list[nn.Module]:
    """The blocks a model consists of, as it names them itself."""
    return [module for module in model.modules() if isinstance(module, model.blocks)]
