from itertools import pairwise

import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.world import World, detect, set_up_torch
from polarcast.hpc.training.micro_batch import choose_micro_batch, share_of
from polarcast.hpc.training.train import learning_rate


def test_single_process_without_a_launcher() -> None:
    world = detect({})
    assert (world.rank, world.size, world.is_first) == (0, 1, True)


def test_rank_and_address_are_read_from_torchrun() -> None:
    env = {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "n1",
        "MASTER_PORT": "7",
    }
    assert detect(env) == World(3, 4, 1, 2, "n1", 7)


@pytest.mark.parametrize(
    ("batch", "micro", "world", "expected"),
    [(8, 8, 1, (8, 1)), (8, 8, 2, (4, 1)), (64, 8, 2, (8, 4)), (12, 8, 1, (6, 2)), (6, 4, 2, (3, 1))],
)
def test_micro_batches_add_up_to_the_global_batch(
    shards: Manifest, batch: int, micro: int, world: int, expected: tuple[int, int]
) -> None:
    config = load_config("demo", [f"train.global_batch={batch}", f"train.micro_batch={micro}"])
    found = choose_micro_batch(resolve(config), shards, World(size=world))
    assert (found, share_of(config.train, world) // found) == expected


def test_indivisible_global_batch_is_rejected() -> None:
    with pytest.raises(BadInput, match="3 processes"):
        share_of(TrainConfig(global_batch=8), 3)


def test_learning_rate_warms_up_and_decays_to_zero() -> None:
    settings = TrainConfig(steps=100, warmup_steps=10, learning_rate=2.0)
    rates = [learning_rate(settings, s) for s in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 0.01


def test_torch_takes_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("polarcast.hpc.distributed.world.usable_cores", lambda: 4)
    try:
        assert [set_up_torch(threads, World(size=2, local_size=2)) for threads in (0, 1, 3, 64)] == [2, 1, 3, 4]
    finally:
        torch.set_num_threads(before)
