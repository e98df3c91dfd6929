"""Non-finite and exploding losses stop the run, with the rank and the samples."""

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


def test_non_finite_loss_is_reported_with_its_samples_at_every_stage(shards: Manifest) -> None:
    errors = poisoned.main(str(shards.folder), "0", "1", "2", "3")
    assert len(set(errors)) == 1
    assert errors[0].startswith("step 3: loss nan on rank 0 for ")
    first_half = poisoned.fail_at(str(shards.folder), 0).split(" for ")[1].split(";")[0]
    assert len(first_half.split(", ")) == poisoned.BATCH // 2, "the valid micro-batch was reported as well"


@pytest.mark.multiprocess
def test_every_rank_reports_the_rank_of_the_non_finite_loss(shards: Manifest, tmp_path: Path) -> None:
    first, second = on_ranks(2, "poisoned", shards.folder, "0", "1", "2", "3", out=tmp_path)
    assert first == second
    assert len(set(first)) == 1
    assert first[0].startswith("step 3: loss nan on rank 1 for ")
    assert "rank 0" not in first[0]


def test_non_finite_gradients_with_finite_losses_are_reported() -> None:
    with pytest.raises(WorkFailed, match=r"^step 7: gradient norm inf, .*rank 0: 003-011, 004-002"):
        LossGuard(World(), 1000).check(7, [batch((3, 11)), batch((4, 2))], [0.1, 0.2], float("inf"))


def test_exploding_loss_stops_the_run() -> None:
    guard = LossGuard(World(), 1000)
    for step in range(30):
        guard.check(step, [batch((1, step))], [0.1 + 0.01 * (step % 3)], 1.0)
    guard.check(30, [batch((1, 30))], [90.0], 1.0)
    with pytest.raises(WorkFailed, match=r"^step 31: loss 200 \(over 1000 × the median 0\.11\) on rank 0 for 002-005;"):
        guard.check(31, [batch((2, 5))], [200.0], 1.0)


@pytest.mark.parametrize(("explode", "before"), [(1000, 5), (0, 100)])
def test_high_loss_at_the_start_or_with_explode_0_does_not_stop_the_run(explode: float, before: int) -> None:
    guard = LossGuard(World(), explode)
    for step in range(before):
        guard.check(step, [batch((1, step))], [0.1], 1.0)
    guard.check(before, [batch((2, 5))], [1e6], 1.0)
