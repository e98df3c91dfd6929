"""Fields as the arrays that compiled loops take."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def on_cpu(*fields: Tensor) -> bool:
    """Whether all fields are in the memory of the CPU, where compiled loops are faster than torch's operators."""
    return all(field.device.type == "cpu" for field in fields)


def scored_type(*fields: Tensor) -> torch.dtype:
    """Return the type in which fields are compared: float64 if one of them is, or holds integers; otherwise float32."""
    small = all(field.is_floating_point() and field.dtype != torch.float64 for field in fields)
    return torch.float32 if small else torch.float64


def as_arrays(*fields: Tensor) -> tuple[npt.NDArray[Any], ...]:
    """Return fields as contiguous arrays of their `scored_type`; each is a view of the tensor where possible."""
    wanted = scored_type(*fields)
    return tuple(np.ascontiguousarray(field.detach().to(wanted).numpy()) for field in fields)
