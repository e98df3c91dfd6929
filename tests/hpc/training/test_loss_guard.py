"""A loss that no training recovers from stops the run, and says where it came from."""

from pathlib import Path

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import WorkFailed
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed.world import World
from polarcast.hpc.training.loss_guard import LossGuard
from tests.support import poisoned
from tests.support.on_ranks import on_ranks


def batch(*samples: tuple[int, int]) -> Batch:
    event, frame = (torch.tensor(column) for column in zip(*samples, strict=True))
    return Batch(torch.zeros(len(samples), 1, 1, 1, 2, 2), None, event, frame, ("zh",), (1.0,))


def test_a_loss_that_is_not_finite_is_told_with_its_samples_at_every_stage(shards: Manifest) -> None:
    told = poisoned.main(str(shards.folder), "0", "1", "2", "3")
    assert len(set(told)) == 1
    assert told[0].startswith("step 3: loss nan on rank 0 for ")
    first_half = poisoned.fail_at(str(shards.folder), 0).split(" for ")[1].split(";")[0]
    assert len(first_half.split(", ")) == poisoned.BATCH // 2, "the sound micro-batch was blamed, too"


@pytest.mark.multiprocess
def test_every_rank_names_the_one_whose_loss_it_was(shards: Manifest, tmp_path: Path) -> None:
    first, second = on_ranks(2, "poisoned", shards.folder, "0", "1", "2", "3", out=tmp_path)
    assert first == second
    assert len(set(first)) == 1
    assert first[0].startswith("step 3: loss nan on rank 1 for ")
    assert "rank 0" not in first[0]


def test_gradients_that_are_not_finite_are_told_though_the_loss_is() -> None:
    with pytest.raises(WorkFailed, match=r"^step 7: gradients of norm inf .*rank 0: 003-011, 004-002"):
        LossGuard(World(), 1000).check(7, [batch((3, 11)), batch((4, 2))], [0.1, 0.2], float("inf"))


def test_a_loss_far_beyond_what_it_was_stops_the_run() -> None:
    guard = LossGuard(World(), 1000)
    for step in range(30):
        guard.check(step, [batch((1, step))], [0.1 + 0.01 * (step % 3)], 1.0)
    guard.check(30, [batch((1, 30))], [90.0], 1.0)
    with pytest.raises(WorkFailed, match=r"^step 31: loss 200, 1000 times the usual 0\.11 .*rank 0 for 002-005;"):
        guard.check(31, [batch((2, 5))], [200.0], 1.0)


@pytest.mark.parametrize(("explode", "before"), [(1000, 5), (0, 100)])
def test_a_high_loss_at_the_start_or_unwatched_does_not(explode: float, before: int) -> None:
    guard = LossGuard(World(), explode)
    for step in range(before):
        guard.check(step, [batch((1, step))], [0.1], 1.0)
    guard.check(before, [batch((2, 5))], [1e6], 1.0)
