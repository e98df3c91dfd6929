"""What exchanging gradients costs on more processes than there are at hand: an α–β model, with its assumptions.

A message of n bytes takes α + n / b: latency and bandwidth (Hockney 1994). An all-reduce among p takes, by a ring,
2(p − 1)α + 2(p − 1)/p · n/b, and by a pipelined double tree about 2 log₂(p) α + 2 n/b (Thakur et al. 2005; Sanders et
al. 2009). Libraries take the faster.
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
    """Time to sum `size` bytes over all processes, on all of them."""
    if processes == 1:
        return 0.0
    p = processes
    ring = 2 * (p - 1) * network.latency + 2 * (p - 1) / p * size / network.bandwidth
    tree = 2 * math.log2(p) * network.latency + 2 * size / network.bandwidth
    return min(ring, tree)


def fitted(sizes: Sequence[float], seconds: Sequence[float], processes: int) -> Network:
    """The network whose ring explains these times of all-reduces best, each by its relative error."""
    p, y = processes, np.asarray(seconds)
    design = np.stack([np.full(len(y), 2.0 * (p - 1)), 2 * (p - 1) / p * np.asarray(sizes)], 1) / y[:, None]
    latency, per_byte = np.linalg.lstsq(design, np.ones(len(y)), rcond=None)[0]
    return Network(max(float(latency), 0.0), 1 / max(float(per_byte), 1e-15))


def efficiency(compute_seconds: float, exchange_seconds: float, overlap: float) -> float:
    """Share of the time that is computing, where a share of the exchange hides behind the backward pass.

    The backward pass is two thirds of the computing: no more than that can hide an exchange.
    """
    hidden = min(overlap * exchange_seconds, 2 / 3 * compute_seconds)
    return compute_seconds / (compute_seconds + exchange_seconds - hidden)
