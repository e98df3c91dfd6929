"""Counter-based permutations and random numbers, computed one index at a time with constant memory.

A Feistel network with cycle walking (Black & Rogaway 2002) over the bits of the index, keyed by hashes.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
_ROUNDS = 6
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))


def keys_of(seed: int, *parts: Indices | int) -> Keys:
    """Derive a key from the seed for each combination of `parts`."""
    key = _mix(np.uint64(seed))
    for part in parts:
        key = _mix(np.asarray(part).astype(np.uint64) ^ key)
    return key


def permuted(index: Indices, samples: Indices | np.int64, keys: Keys) -> Indices:
    """Map each index by the permutation of 0 … samples − 1 that its key selects.

    Args:
        index: Indices, (n,), each below its `samples`.
        samples: Sizes, (n,) or one for all.
        keys: Keys, (n,); equal keys and sizes give the same permutation.
    """
    value: Keys = np.atleast_1d(index).astype(np.uint64)
    limit = np.broadcast_to(np.asarray(samples).astype(np.uint64), value.shape)
    keys = np.broadcast_to(keys, value.shape)
    half_bits = _half_bits(limit)
    out = _feistel(value, keys, half_bits)
    while (outside := out >= limit).any():
        out[outside] = _feistel(out[outside], keys[outside], half_bits[outside])
    return out.astype(np.int64)


def _half_bits(limit: Keys) -> Keys:
    """Half the bits of the largest index, rounded up, at least one."""
    sizes, where = np.unique(limit, return_inverse=True)
    bits = [max(1, (max(int(s) - 1, 1).bit_length() + 1) // 2) for s in sizes]
    return np.array(bits, np.uint64)[where]


def _feistel(value: Keys, keys: Keys, half_bits: Keys) -> Keys:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = value >> half_bits, value & mask
    for round_ in range(_ROUNDS):
        left, right = right, left ^ (_mix(right ^ keys ^ np.uint64(round_ << 32)) & mask)
    return (left << half_bits) | right


def uniform(keys: Keys) -> npt.NDArray[np.float64]:
    """Return a uniform random number in [0, 1) for each key."""
    return (_mix(keys) >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mix(value: Keys | np.uint64) -> Keys:
    """MurmurHash3 finalizer: every input bit changes every output bit with probability one half."""
    out = np.atleast_1d(np.asarray(value, dtype=np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    for factor in _MIX:
        out ^= out >> np.uint64(33)
        out *= factor
    return out ^ (out >> np.uint64(33))
