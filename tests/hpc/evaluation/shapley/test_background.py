"""Windows explained and their donors: of other groups, as many as asked for, at random or most alike."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.evaluation.shapley.background import (
    conditional_blocks,
    drawn_over_groups,
    groups_of,
    marginal_blocks,
)
from polarcast.hpc.evaluation.shapley.players import players_of
from polarcast.models.forecaster import InputSpec

group_lists = st.lists(st.integers(0, 6), min_size=2, max_size=60).filter(lambda groups: len(set(groups)) > 1)


def numbered(groups: list[int]) -> np.ndarray:
    return np.unique(groups, return_inverse=True)[1]


@given(group_lists, st.integers(1, 60), st.integers(1, 9), st.integers(0, 9))
def test_every_window_has_its_donors_from_other_groups(listed: list[int], number: int, size: int, seed: int) -> None:
    groups, rng = numbered(listed), np.random.default_rng(seed)
    explained = drawn_over_groups(groups, number, rng)
    blocks = marginal_blocks(groups, explained, size, rng)
    assert sorted(w for block in blocks for w in block.windows) == sorted(explained)
    for block in blocks:
        assert block.donors.shape == (len(block.windows), size)
        assert (groups[block.donors] != groups[block.windows][:, None]).all()


@given(group_lists, st.integers(1, 9), st.integers(0, 9))
def test_donors_in_a_block_are_mutual(listed: list[int], size: int, seed: int) -> None:
    groups, rng = numbered(listed), np.random.default_rng(seed)
    for block in marginal_blocks(groups, drawn_over_groups(groups, 60, rng), size, rng):
        pairs = {
            (w, d) for w, donors in zip(block.windows.tolist(), block.donors.tolist(), strict=True) for d in donors
        }
        if block.is_mutual:
            assert {(d, w) for w, d in pairs} == pairs
            assert len(pairs) == block.donors.size


def test_windows_of_many_groups_are_all_in_mutual_blocks() -> None:
    groups, rng = np.arange(18).repeat(3), np.random.default_rng(0)
    blocks = marginal_blocks(groups, drawn_over_groups(groups, 27, rng), 8, rng)
    assert [len(block.windows) for block in blocks] == [9, 9, 9]
    assert all(block.is_mutual for block in blocks)


@given(group_lists, st.integers(1, 60), st.integers(0, 9))
def test_windows_are_drawn_over_groups(listed: list[int], number: int, seed: int) -> None:
    """No group has two windows more than another that has some left."""
    groups = numbered(listed)
    drawn = drawn_over_groups(groups, number, np.random.default_rng(seed))
    assert len(set(drawn.tolist())) == len(drawn) == min(number, len(groups))
    counts, sizes = Counter(groups[drawn].tolist()), Counter(groups.tolist())
    most = max(counts.values())
    assert all(counts[group] >= most - 1 or counts[group] == sizes[group] for group in sizes)


def test_one_group_has_no_donors() -> None:
    with pytest.raises(BadInput, match="one group only"):
        marginal_blocks(np.zeros(4, int), np.arange(4), 2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def reader(shards: Manifest) -> Reader:
    return open_reader(shards, "train", variables=("zh", "zdr"), heights_km=(1.0, 3.0, 7.0))


def test_conditional_donors_resemble_the_present_players_most(reader: Reader) -> None:
    """Held against distances computed in another way; the grid is twice that of the comparison."""
    players = players_of("channels", InputSpec(("zh", "zdr"), (1.0, 3.0, 7.0)))
    groups = groups_of(reader)
    explained = np.arange(len(reader))[::5]
    blocks = conditional_blocks(reader, groups, explained, 3, players, np.random.default_rng(0))
    fields = reader.read(np.arange(len(reader))).radar.numpy().astype(float)[:, 0].reshape(len(reader), 6, 32, 32)
    coarse = fields.reshape(len(reader), 6, 16, 2, 16, 2).mean((3, 5)).reshape(len(reader), 6, -1)
    scale = coarse.transpose(1, 0, 2).reshape(6, -1).var(1)
    assert sorted(w for block in blocks for w in block.windows) == explained.tolist()
    for block in blocks:
        for window, donors in zip(block.windows, block.donors, strict=True):
            apart = ((coarse - coarse[window]) ** 2).mean(2) / scale
            for coalition in (0b1, 0b101010, 0b111111):
                present = [k for k in range(6) if coalition >> k & 1]
                distance = np.where(groups == groups[window], np.inf, apart[:, present].mean(1))
                np.testing.assert_allclose(distance[donors[coalition]], np.sort(distance)[:3], rtol=1e-3)


def test_conditional_donors_without_present_players_are_drawn_at_random(reader: Reader) -> None:
    players, groups = players_of("variables", InputSpec(("zh", "zdr"), (1.0, 3.0, 7.0))), groups_of(reader)
    drawn = set()
    for seed in range(6):
        (block,) = conditional_blocks(reader, groups, np.array([0]), 2, players, np.random.default_rng(seed))
        drawn.add(tuple(block.donors[0, 0].tolist()))
        assert (groups[block.donors] != groups[0]).all()
    assert len(drawn) > 1
