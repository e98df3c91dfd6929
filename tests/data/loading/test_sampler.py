"""Substitutes for windows in bad shards, the limit on bad shards, and random crops."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.data.loading.augment import crop
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.loading.sampler import TrainSampler, block_shuffle, whole_shuffle
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest, read_manifest
from tests.support.marked_shards import all_to_train, marked_shards, samples_of

EVENTS = (5, 5, 5, 5, 5)
ONCE = Patience(retries=0)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Five shards of one event each."""
    return marked_shards(tmp_path, EVENTS)


def reader_of(manifest: Manifest, stream: bool = False, budget: int | None = None) -> Reader:
    return open_reader(
        manifest, "train", variables=("zh",), heights_km=(3.0,), patience=ONCE if stream else None, budget=budget
    )


def sampler_of(reader: Reader, share: float, stream: bool = False) -> TrainSampler:
    order = block_shuffle(reader, 0, 0.0, 2, 2) if stream else whole_shuffle(reader, 0)
    return TrainSampler(reader, order, seed=0, max_bad_share=share)


def damage(manifest: Manifest, shard: int, how: str) -> None:
    path = manifest.folder / manifest.shards[shard].name
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-600])
    elif how == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[1500] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("stream", "budget", "how"),
    [(False, None, "truncated"), (False, None, "missing"), (False, 0, "truncated"), (False, 0, "missing")]
    + [(True, None, how) for how in ("truncated", "missing", "changed")],
)
def test_windows_of_a_bad_shard_are_replaced_and_the_shard_is_reported(
    manifest: Manifest, stream: bool, budget: int | None, how: str
) -> None:
    intact = sampler_of(reader_of(manifest, stream), 0.0, stream)
    before = [samples_of(intact.read(np.arange(p, p + 5))) for p in range(0, 50, 5)]
    damage(manifest, 3, how)
    sampler = sampler_of(reader_of(manifest, stream, budget), 0.2, stream)
    after = [samples_of(sampler.read(np.arange(p, p + 5))) for p in range(0, 50, 5)]
    flat = [(a, b) for one, two in zip(before, after, strict=True) for a, b in zip(one, two, strict=True)]
    assert all(b[0] != 3 for _, b in flat)
    assert all(a == b for a, b in flat if a[0] != 3)
    assert list(sampler.bad) == [3]
    report = sampler.report(3)
    assert report["shard"].endswith("shard-000003.tar")
    assert report["lost"] == "20.00%"


def test_a_substitute_does_not_depend_on_earlier_reads(manifest: Manifest) -> None:
    damage(manifest, 1, "missing")
    damage(manifest, 4, "missing")
    informed, uninformed = (sampler_of(reader_of(manifest), 0.5) for _ in range(2))
    informed.exclude({1: "missing", 4: "missing"})
    for start in range(0, 100, 4):
        positions = np.arange(start, start + 4)
        assert samples_of(informed.read(positions)) == samples_of(uninformed.read(positions))


def test_too_many_bad_shards_raise_an_error(manifest: Manifest) -> None:
    damage(manifest, 2, "missing")
    sampler = sampler_of(reader_of(manifest), 0.19)
    with pytest.raises(BadInput, match=r"shard-000002\.tar.*20\.0% of the training windows"):
        sampler.read(np.arange(50))


def test_truncating_a_mapped_file_raises_an_error_instead_of_crashing(manifest: Manifest) -> None:
    reader = reader_of(manifest)
    reader.read(range(25))
    damage(manifest, 0, "truncated")
    with pytest.raises(BadInput, match=r"shard-000000\.tar"):
        reader.read(range(25))


def test_offsets_beyond_a_shard_raise_an_error_instead_of_crashing(manifest: Manifest) -> None:
    samples = manifest.samples.copy()
    samples[:, 3] += manifest.shards[0].bytes
    for budget in (None, 0):
        reader = reader_of(replace(manifest, samples=samples), budget=budget)
        with pytest.raises(BadInput, match="ends"):
            reader.read([0])


def test_an_event_in_two_shards_can_be_read_but_not_streamed(manifest: Manifest) -> None:
    """Stock WebDataset writes such tars, with a fixed number of samples each."""
    samples = manifest.samples.copy()
    second = samples[:, 1] == 1
    samples[second, 1], samples[second, 2] = 0, samples[second, 2] + 5
    joined = all_to_train(replace(manifest, samples=samples))
    mapped = open_reader(joined, "train", variables=("zh",), heights_km=(3.0,), frames=4)
    marks = mapped.read([3]).radar[0, :, 0, 0, 0, 0].tolist()
    assert marks == [4, 5, 33, 34]
    streamed = open_reader(joined, "train", variables=("zh",), heights_km=(3.0,), frames=4, patience=ONCE)
    with pytest.raises(BadInput, match="two shards"):
        block_shuffle(streamed, 0, 0.0, 1, 1)


def test_manifest_write_and_read_round_trip(manifest: Manifest) -> None:
    again = read_manifest(manifest.folder)
    np.testing.assert_array_equal(again.samples, manifest.samples)
    assert again.to_json() == replace(manifest, splits=again.splits).to_json()


def test_patches_depend_only_on_seed_and_stream_position(shards: Manifest) -> None:
    reader = open_reader(shards, "train", variables=("zh", "zdr"), heights_km=(1.0, 3.0))
    order = whole_shuffle(reader, 0)
    patches = [partial(crop, side=12)]
    whole, cropped = TrainSampler(reader, order, seed=0), TrainSampler(reader, order, seed=0, transforms=patches)
    together = cropped.read(np.arange(16))
    assert together.radar.shape == (16, 1, 2, 2, 12, 12)
    one_by_one = [cropped.read(np.arange(p, p + 1)) for p in range(16)]
    places = set()
    for position, alone in enumerate(one_by_one):
        assert torch.equal(alone.radar[0], together.radar[position])
        field = whole.read(np.arange(position, position + 1))
        found = [
            (y, x)
            for y in range(21)
            for x in range(21)
            if torch.equal(field.rain_rate[0, :, y : y + 12, x : x + 12], alone.rain_rate[0])
            and torch.equal(field.radar[0, ..., y : y + 12, x : x + 12], alone.radar[0])
        ]
        assert found
        # The location of a patch without echo is ambiguous.
        places.update(found if len(found) == 1 else [])
    assert len(places) > 5
    assert not torch.equal(
        TrainSampler(reader, order, seed=1, transforms=patches).read(np.arange(16)).radar, together.radar
    )
