"""Cost of gradient exchange on more processes than are available: an α–β model.

A message of n bytes takes α + n / b, with latency α and bandwidth b (Hockney 1994). An all-reduce among p processes
takes 2(p − 1)α + 2(p − 1)/p · n/b by a ring, and about 2 log₂(p) α + 2 n/b by a pipelined double tree (Thakur et al.
2005; Sanders et al. 2009). Libraries use the faster one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Network:
    """Latency of a message, in seconds, and bandwidth of each process, in bytes per second."""

    latency: float
    bandwidth: float


def all_reduce_seconds(network: Network, processes: int, size: float) -> float:
    """Return the seconds of an all-reduce of `size` bytes."""
    if processes == 1:
        return 0.0
    p = processes
    ring = 2 * (p - 1) * network.latency + 2 * (p - 1) / p * size / network.bandwidth
    tree = 2 * math.log2(p) * network.latency + 2 * size / network.bandwidth
    return min(ring, tree)


def fit_network(sizes: Sequence[float], seconds: Sequence[float], processes: int) -> Network:
    """Fit the network to times of all-reduces by a ring, by least squares of the relative errors."""
    p, y = processes, np.asarray(seconds)
    design = np.stack([np.full(len(y), 2.0 * (p - 1)), 2 * (p - 1) / p * np.asarray(sizes)], 1) / y[:, None]
    latency, per_byte = np.linalg.lstsq(design, np.ones(len(y)), rcond=None)[0]
    return Network(max(float(latency), 0.0), 1 / max(float(per_byte), 1e-15))


def efficiency(compute_seconds: float, exchange_seconds: float, overlap: float) -> float:
    """Return the share of the time spent computing, if a share `overlap` of the exchange overlaps the backward pass.

    The backward pass is two thirds of the computation, which limits the overlap.
    """
    hidden = min(overlap * exchange_seconds, 2 / 3 * compute_seconds)
    return compute_seconds / (compute_seconds + (exchange_seconds - hidden))
