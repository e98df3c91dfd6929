"""Choice of the micro-batch size."""

import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training import micro_batch
from polarcast.hpc.training.activation_checkpointing import checkpoint_activations
from polarcast.hpc.training.estimate import count, example_batch, needed_by
from polarcast.hpc.training.micro_batch import choose_micro_batch

SETTINGS = ["train.micro_batch=auto", "train.global_batch=24", "train.average_decay=0.99"]


def test_auto_selects_the_largest_micro_batch_that_fits(shards: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("demo", SETTINGS)
    counted = count(resolve(config), shards.shape)
    for micro in (24, 8, 1):
        needed = needed_by(counted, config.train, 1, micro).total
        monkeypatch.setattr(micro_batch, "_available_bytes", lambda needed=needed: 1 + needed / micro_batch._FILLED)
        assert choose_micro_batch(resolve(config), shards, World()) == micro
    monkeypatch.setattr(micro_batch, "_available_bytes", lambda: needed // 2)
    with pytest.raises(BadInput, match="one sample does not fit"):
        choose_micro_batch(resolve(config), shards, World())


def test_processes_of_one_node_share_its_memory(shards: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("demo", SETTINGS)
    one = needed_by(count(resolve(config), shards.shape), config.train, 2, 12).total / micro_batch._FILLED
    monkeypatch.setattr(micro_batch, "gather", lambda item, _: [item])
    monkeypatch.setattr(micro_batch, "join", lambda _: None)
    monkeypatch.setattr(micro_batch, "_available_bytes", lambda: 2 * one + 2)
    assert choose_micro_batch(resolve(config), shards, World(size=2, local_size=2)) == 12
    monkeypatch.setattr(micro_batch, "_available_bytes", lambda: 2 * one - 2)
    assert choose_micro_batch(resolve(config), shards, World(size=2, local_size=2)) == 6


def test_nets_of_one_process_share_its_memory(shards: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("demo", SETTINGS)
    one = needed_by(count(resolve(config), shards.shape), config.train, 1, 24).total / micro_batch._FILLED
    monkeypatch.setattr(micro_batch, "_available_bytes", lambda: 30 * one + 1)
    assert choose_micro_batch(resolve(config), shards, World(), nets=30) == 24
    monkeypatch.setattr(micro_batch, "_available_bytes", lambda: 30 * one - 30)
    assert choose_micro_batch(resolve(config), shards, World(), nets=30) == 12


@pytest.mark.parametrize("wrong", ["large", "0", "-3"])
def test_invalid_micro_batch_is_rejected(wrong: str) -> None:
    with pytest.raises(BadInput, match=r"train\.micro_batch"):
        load_config("demo", [f"train.micro_batch={wrong}"])


def test_activation_checkpointing_keeps_gradients_and_names() -> None:
    config = load_config("demo", ["model.widths=[4,8,8]"])
    plain, twice = build_model(resolve(config)), build_model(resolve(config))
    checkpoint_activations(twice)
    batch = example_batch(resolve(config).inputs, (32, 32), samples=2)
    batch.radar.copy_(torch.rand(batch.radar.shape) * 40)
    for model in (plain, twice):
        model.loss(batch).backward()
    assert list(plain.state_dict()) == list(twice.state_dict())
    for a, b in zip(plain.parameters(), twice.parameters(), strict=True):
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad)
