"""Shards as a torch Dataset: a stock DataLoader gives the windows that the suite's own reader reads."""

import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.dataset import ShardDataset, concatenate, open_shards
from polarcast.data.loading.reader import open_reader
from polarcast.data.shards.manifest import Manifest


def same(one: Batch, other: Batch) -> bool:
    fields = ("radar", "rain", "event", "frame", "target_zh", "last_zh")
    pairs = [(getattr(one, name), getattr(other, name)) for name in fields]
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_reads_every_window_once_in_order(shards: Manifest, workers: int) -> None:
    data = open_shards(shards.folder, split="train", variables=["zdr", "zh"], heights_km=[3.0])
    loader = DataLoader(data, batch_size=3, num_workers=workers, collate_fn=data.collate)
    batches = list(loader)
    reader = open_reader(shards, "train", variables=["zdr", "zh"], heights_km=[3.0])
    assert [len(batch) for batch in batches] == [3, 3, 3, 3, 3, 1]
    assert same(concatenate(batches), reader.read(range(len(reader))))
    assert batches[0].radar.dtype == torch.float16
    assert batches[0].to("cpu").radar.dtype == torch.float32


def test_workers_shuffle_and_pin_as_with_any_dataset(shards: Manifest) -> None:
    data = open_shards(shards.folder)
    loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=2, collate_fn=data.collate)
    drawn = [(int(e), int(f)) for batch in loader for e, f in zip(batch.event, batch.frame, strict=True)]
    assert sorted(drawn) == sorted({(int(data[i].event), int(data[i].frame)) for i in range(len(data))})


def test_single_windows_and_subsets_are_batches_of_one(shards: Manifest) -> None:
    data = open_shards(shards.folder, split="test")
    assert len(data[0]) == 1
    assert same(data[-1], data[len(data) - 1])
    assert same(concatenate([data[2], data[5]]), data.__getitems__([2, 5]))
    parts = DataLoader(Subset(data, [5, 2]), batch_size=2, collate_fn=data.collate)
    assert same(next(iter(parts)), data.__getitems__([5, 2]))
    with pytest.raises(IndexError, match="window 8 of 8"):
        data[8]


def test_a_nowcast_window_holds_the_frames_to_forecast(shards: Manifest) -> None:
    data = open_shards(shards.folder, frames=2, lead_frames=1)
    batch = data[0]
    assert batch.rain is None
    assert batch.radar.shape[1] == 2
    assert batch.required_target_zh.shape[1] == 1
    assert batch.last_zh is not None
    assert torch.equal(batch.last_zh, batch.variable("zh")[:, -1])


def test_all_splits_together_hold_every_event(shards: Manifest) -> None:
    data = open_shards(shards.folder, split="all")
    assert set(data.events.tolist()) == set(range(8))
    assert (data.variables, data.heights_km) == (shards.variables, shards.heights_km)
    assert (
        len(data)
        == len(data.events)
        == sum(len(open_shards(shards.folder, s)) for s in ("train", "validation", "test"))
    )


def test_it_travels_to_other_processes_without_its_open_files(shards: Manifest) -> None:
    data = open_shards(shards.folder)
    travelled: ShardDataset = pickle.loads(pickle.dumps(data))
    assert same(travelled[1], data[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "training"}, "unknown split 'training' — choose from: train, validation, test, all"),
        ({"frames": 0}, "frames: must be a whole number of at least 1, got 0"),
        ({"frames": 1.5}, "frames: must be a whole number"),
        ({"variables": "zh"}, "variables: must be a list of different values, got 'zh'"),
        ({"variables": []}, "variables: must be a list"),
        ({"heights_km": [3.0, 3.0]}, "heights_km: must be a list of different values"),
        ({"variables": ["vr"]}, "vr"),
        ({"heights_km": [2.0]}, "2"),
        ({"frames": 50}, "50"),
    ],
)
def test_what_it_can_not_read_is_named(shards: Manifest, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_shards(shards.folder, **arguments)  # type: ignore[arg-type]


def test_batches_that_differ_can_not_be_joined(shards: Manifest) -> None:
    one, other = open_shards(shards.folder, variables=["zh"]), open_shards(shards.folder, rain=False, variables=["zh"])
    with pytest.raises(ValueError, match="a field that others lack"):
        concatenate([one[0], other[0]])
    with pytest.raises(ValueError, match="variables or heights"):
        concatenate([one[0], open_shards(shards.folder)[0]])
    with pytest.raises(ValueError, match="no batch"):
        concatenate([])
