"""A trained model inside another: used, never changed."""

from torch import nn


def freeze(model: nn.Module) -> nn.Module:
    """Turn every parameter of a model into a buffer, in place.

    It is saved with what is built around it and goes where that goes, but no optimizer sees it, no process shares it
    out, and it does not count among the trained parameters.
    """
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach().clone())
    return model.eval()
