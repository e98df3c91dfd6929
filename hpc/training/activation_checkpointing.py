"""Activation checkpointing: recompute the activations of blocks during the backward pass."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Forecaster


def checkpoint_activations(model: Forecaster) -> None:
    """Make the blocks of a model keep only their inputs; parameter names do not change.

    Raises:
        BadInput: the model declares no blocks.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise BadInput(
            f"{type(model).__name__} has no blocks to recompute", "train.checkpoint_activations", "set it to false"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def blocks_of(model: Forecaster) -> list[nn.Module]:
    """Return the modules of a model whose types it declares in `blocks`."""
    return [module for module in model.modules() if isinstance(module, model.blocks)]
