"""Classes of values, and their joint counts, from which tables and histograms of all thresholds follow."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.hpc.scores.arrays import as_arrays, on_cpu, scored_type

_LARGEST = 255
"""Largest class that fits into uint8."""


def classify(field: Tensor, edges: Sequence[float]) -> Tensor:
    """Return one plus the number of edges that a value reaches; 0 for NaN.

    Args:
        field: Fields, (n, y, x).
        edges: Ascending edges in the unit of the field.

    Returns:
        Classes, (n, y, x) uint8, or int32 for more than 254 edges.
    """
    dtype = torch.uint8 if len(edges) < _LARGEST else torch.int32
    if on_cpu(field):
        from polarcast.hpc.scores import pixel_kernels

        [values] = as_arrays(field)
        out = torch.empty(values.shape, dtype=dtype)
        pixel_kernels.classify(values, np.array(edges, values.dtype), out.numpy())
        return out
    field = field.to(scored_type(field)).contiguous()
    levels = torch.tensor(edges, dtype=field.dtype, device=field.device)
    reached = torch.bucketize(field, levels, right=True, out_int32=True) + 1
    return torch.where(field.isnan(), 0, reached).to(dtype)


def joint_counts(forecast: Tensor, observed: Tensor, size: int) -> Tensor:
    """Count the pixels of each pair of classes.

    Args:
        forecast: Forecast classes below `size`, (n, y, x) integers.
        observed: Observed classes below `size`, (n, y, x) integers.
        size: Number of classes.

    Returns:
        Counts, (n, forecast class, observed class) int64.
    """
    counts = torch.zeros(len(forecast), size, size, dtype=torch.int64, device=forecast.device)
    if on_cpu(forecast, observed):
        from polarcast.hpc.scores.pixel_kernels import count_pairs

        count_pairs(forecast.contiguous().numpy(), observed.contiguous().numpy(), counts.numpy())
        return counts
    pairs = (size * forecast.long() + observed).flatten(1)
    return counts.flatten(1).scatter_add_(1, pairs, torch.ones_like(pairs)).view_as(counts)


def pool_classes(classes: Tensor, side: int) -> Tensor:
    """Return the highest class of each block, (n, block row, block column); blocks at the far edges are smaller."""
    if on_cpu(classes):
        from polarcast.hpc.scores.pixel_kernels import pool_max

        n, height, width = classes.shape
        out = torch.zeros(n, -(-height // side), -(-width // side), dtype=classes.dtype)
        pool_max(classes.contiguous().numpy(), side, out.numpy())
        return out
    return F.max_pool2d(classes[:, None].float(), side, ceil_mode=True)[:, 0].to(classes.dtype)


def pool_values(fields: Tensor, side: int) -> Tensor:
    """Return the mean and the maximum of each block; blocks at the far edges are smaller.

    Args:
        fields: Fields, (n, y, x). NaN is left out; a block of NaN only is NaN.
        side: Side length of the blocks in pixels.

    Returns:
        Means, then maxima, (2, n, block row, block column) float64.
    """
    n, height, width = fields.shape
    if on_cpu(fields):
        from polarcast.hpc.scores import pixel_kernels

        out = torch.empty(2, n, -(-height // side), -(-width // side), dtype=torch.float64)
        pixel_kernels.pool_values(*as_arrays(fields), side, out.numpy())
        return out
    valid, values = ~fields.isnan(), fields.double()
    total, pixels = (
        F.avg_pool2d(of[:, None], side, ceil_mode=True, divisor_override=1)[:, 0]
        for of in (values.where(valid, 0), valid.double())
    )
    highest = F.max_pool2d(values.where(valid, -torch.inf)[:, None], side, ceil_mode=True)[:, 0]
    return torch.stack([total / pixels, highest.where(pixels > 0, torch.nan)])
