"""Gathering of batches: only the requested fields are read, and batches in use are never overwritten."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.loading.buffers import Recycler
from polarcast.data.loading.fields import runs_of
from polarcast.data.loading.reader import Reader, only_test, open_reader
from polarcast.data.shards.manifest import Manifest

VARIABLES, HEIGHTS = ("zh", "zdr", "kdp"), (1.0, 3.0, 7.0)


def _reader(shards: Manifest, variables: tuple[str, ...], heights: tuple[float, ...], **options: int) -> Reader:
    everything = only_test(shards)
    return open_reader(everything, "test", variables=variables, heights_km=heights, frames=2, **options)


SUBSETS = [p for n in (1, 2, 3) for p in permutations(range(3), n)]


@given(st.sampled_from(SUBSETS), st.sampled_from(SUBSETS))
def test_runs_pick_any_variables_and_heights_in_any_order(v: tuple[int, ...], z: tuple[int, ...]) -> None:
    stored = np.arange(3 * 3 * 5)
    out = np.full(len(v) * len(z) * 5, -1)
    for source, target, length in runs_of(list(v), list(z), 3, 5):
        out[target : target + length] = stored[source : source + length]
    np.testing.assert_array_equal(out, stored.reshape(3, 3, 5)[np.ix_(v, z)].reshape(-1))


@pytest.mark.parametrize(("v", "z", "runs"), [((0, 1, 2), (0, 1, 2), 1), ((0, 1), (0, 1, 2), 1), ((0, 1, 2), (1,), 3)])
def test_adjacent_fields_form_one_run(v: tuple[int, ...], z: tuple[int, ...], runs: int) -> None:
    assert len(runs_of(list(v), list(z), 3, 7)) == runs


def _bytes_read() -> int:
    """Bytes read by this process, as counted by the kernel."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_only_the_chosen_bytes_are_read(shards: Manifest) -> None:
    """One of nine radar fields and the rain are a fifth of the bytes of a frame."""
    read = []
    for variables, heights in ((("zdr",), (3.0,)), (VARIABLES, HEIGHTS)):
        reader = _reader(shards, variables, heights, budget=0)
        reader.read(range(12))  # opens the files
        before, again = _bytes_read(), _bytes_read()
        reader.read(range(12))
        read.append(_bytes_read() - again - (again - before))
    assert read == [12 * 2 * 2 * fields * 32 * 32 for fields in (1 + 1, 9 + 1)]


def test_threads_do_not_change_a_batch(shards: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polarcast.data.loading.reader._MIN_BYTES_FOR_THREADS", 0)
    one, three = (_reader(shards, VARIABLES, HEIGHTS, threads=threads).read(range(12)) for threads in (1, 3))
    assert torch.equal(one.radar, three.radar)
    assert torch.equal(one.rain_rate, three.rain_rate)


def test_a_batch_in_use_is_not_overwritten(shards: Manifest) -> None:
    reader = _reader(shards, ("zh",), (1.0,))
    kept = reader.read([0, 1])
    before = kept.radar.clone()
    part = reader.read([2, 3]).radar[1:, :1]  # the only reference to another batch
    value = part.clone()
    for start in range(4, 14):
        reader.read([start, start + 1])
    assert torch.equal(kept.radar, before)
    assert torch.equal(part, value)


def test_memory_of_a_released_batch_is_reused() -> None:
    recycler = Recycler()
    first = recycler.take((4, 5))
    address = first.ctypes.data
    tensor = torch.from_numpy(first)
    del first
    assert recycler.take((4, 5)).ctypes.data != address  # the tensor still uses it
    del tensor
    assert recycler.take((5, 4)).ctypes.data == address


def test_memory_does_not_grow_over_many_batches(shards: Manifest) -> None:
    reader = _reader(shards, VARIABLES, HEIGHTS)
    for _ in range(3):
        for start in range(0, 20, 4):
            reader.read(range(start, start + 4))
    assert sum(len(free) for free in reader._buffers._free.values()) <= 4
