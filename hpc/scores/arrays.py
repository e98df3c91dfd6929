"""Fields as the arrays that compiled loops take."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def on_cpu(*fields: Tensor) -> bool:
    """Whether all fields are in the memory of the CPU, where compiled loops are faster than torch's operators."""
    return all(field.device.type == "cpu" for field in fields)


def as_arrays(*fields: Tensor) -> tuple[npt.NDArray[Any], ...]:
    """Return fields as contiguous arrays of one type: float64 if one of them is, or holds integers; otherwise float32.

    Each is a view of the tensor where possible.
    """
    small = all(field.is_floating_point() and field.dtype != torch.float64 for field in fields)
    wanted = torch.float32 if small else torch.float64
    return tuple(np.ascontiguousarray(field.detach().to(wanted).numpy()) for field in fields)
