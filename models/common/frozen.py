"""Freezing of a trained model that is part of another model."""

from torch import nn


def freeze(model: nn.Module) -> nn.Module:
    """Convert every parameter of a model to a buffer, in place, and set the model to evaluation mode.

    Buffers are saved and moved with the enclosing module, but optimizers, sharding and parameter counts ignore them.
    """
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach().clone())
    return model.eval()
