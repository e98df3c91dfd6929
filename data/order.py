"""One global order of samples for a seed: a pure function, the same for any number of ranks and workers.

Position p of the endless stream of samples belongs to epoch p // n; within an epoch a counter-based permutation (a
Feistel network with cycle walking, Black & Rogaway 2002) visits every sample exactly once. Nothing is shuffled in
memory and nothing has to be replayed: to resume is to know p.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
_ROUNDS = 6
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))


def sample_at(position: Indices, samples: int, seed: int) -> Indices:
    """The sample (0 … samples − 1) at each position of the endless stream.

    Raises:
        ValueError: `samples` is not positive.
    """
    if samples < 1:
        raise ValueError(f"an order needs at least one sample, got {samples}")
    position = np.asarray(position, dtype=np.int64)
    epoch, index = np.divmod(position, samples)
    keys = _mix(epoch.astype(np.uint64) ^ _mix(np.uint64(seed)))
    return _permute(index.astype(np.uint64), samples, keys)


def rank_slice(step: int, global_batch: int, rank: int, world: int) -> Indices:
    """Stream positions of one rank's part of the global batch of `step`: contiguous, equal on every rank.

    Raises:
        ValueError: the global batch can't be divided among the ranks.
    """
    if global_batch % world:
        raise ValueError(f"a global batch of {global_batch} can't be divided among {world} ranks")
    share = global_batch // world
    start = step * global_batch + rank * share
    return np.arange(start, start + share)


def _permute(index: npt.NDArray[np.uint64], samples: int, keys: npt.NDArray[np.uint64]) -> Indices:
    half_bits = max(1, (max(samples - 1, 1).bit_length() + 1) // 2)
    out = _feistel(index, keys, half_bits)
    outside = out >= samples
    while outside.any():
        out[outside] = _feistel(out[outside], keys[outside], half_bits)
        outside = out >= samples
    return out.astype(np.int64)


def _feistel(value: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], half_bits: int) -> npt.NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = value >> shift, value & mask
    for round_ in range(_ROUNDS):
        left, right = right, left ^ (_mix(right ^ keys ^ np.uint64(round_ << 32)) & mask)
    return (left << shift) | right


def _mix(value: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    """MurmurHash3's finaliser: every input bit changes every output bit with probability one half."""
    out = np.atleast_1d(np.asarray(value, dtype=np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    for factor in _MIX:
        out ^= out >> np.uint64(33)
        out *= factor
    return out ^ (out >> np.uint64(33))
