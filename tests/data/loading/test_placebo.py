"""A placebo reads ZDR and KDP of other groups: same marginals, no information, a pure function of the sample."""

import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.augment import crop, flip_rotate
from polarcast.data.loading.donors import Donors, drawn_keys, fixed_keys
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.loading.sampler import TrainSampler, block_shuffle, donors_of, whole_shuffle
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest, read_manifest

ALL = ("zh", "zdr", "kdp")
HEIGHTS = (1.0, 3.0, 7.0)


def reader_of(shards: Manifest, placebo: bool = True, split: str = "train", **settings: object) -> Reader:
    given_ = {"variables": ALL, "heights_km": HEIGHTS, "frames": 2, "rain": True, "placebo": placebo, **settings}
    return open_reader(shards, split, **given_)  # type: ignore[arg-type]


def by_start(batch: Batch) -> dict[tuple[int, int], torch.Tensor]:
    return dict(zip(zip(batch.event.tolist(), batch.frame.tolist(), strict=True), batch.radar, strict=True))


def donor_of(fields: torch.Tensor, whole: dict[tuple[int, int], torch.Tensor]) -> tuple[int, int]:
    """Event and frame of the window whose ZDR and KDP (t, v, z, y, x) these are."""
    found = [key for key, other in whole.items() if torch.equal(other[:, 1:], fields[:, 1:])]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("variables", [ALL, ("zdr", "zh", "kdp"), ("kdp", "zdr", "zh"), ("zh", "kdp")])
@pytest.mark.parametrize("heights", [HEIGHTS, (7.0, 1.0)])
def test_only_the_other_variables_come_from_another_event(
    shards: Manifest, variables: tuple[str, ...], heights: tuple[float, ...]
) -> None:
    true, placebo = (
        reader_of(shards, is_, variables=variables, heights_km=heights).read(range(4)) for is_ in (False, True)
    )
    assert torch.equal(placebo.variable("zh"), true.variable("zh"))
    assert torch.equal(placebo.rain_rate, true.rain_rate)
    assert torch.equal(placebo.event, true.event)
    whole = reader_of(shards, False, variables=variables, heights_km=heights)
    windows = [whole.read([number]) for number in range(len(whole))]
    others = [name for name in variables if name != "zh"]
    for i in range(4):
        donors = [
            int(w.event)
            for w in windows
            if all(torch.equal(w.variable(name)[0], placebo.variable(name)[i]) for name in others)
        ]
        assert len(donors) == 1
        assert donors[0] != int(placebo.event[i])


def test_nowcast_keeps_its_own_truth(shards: Manifest) -> None:
    windows = {"frames": 4, "targets": 2, "future": True, "rain": False}
    true, placebo = (reader_of(shards, is_, **windows).read(range(3)) for is_ in (False, True))
    assert torch.equal(placebo.required_target_zh, true.required_target_zh)
    assert torch.equal(placebo.last_zh, true.last_zh)  # type: ignore[arg-type]
    assert not torch.equal(placebo.variable("kdp"), true.variable("kdp"))


def test_donors_follow_in_time_with_their_context(shards: Manifest) -> None:
    settings = {"frames": 1, "context": 2}
    whole = reader_of(shards, False, **settings)
    windows = by_start(whole.read(range(len(whole))))
    for fields in reader_of(shards, **settings).read(range(6)).radar:
        donor_of(fields, windows)


def test_donors_are_of_another_group(shards: Manifest) -> None:
    train = sorted(shards.splits["train"])
    grouped = replace(shards, groups={event: "first" if event in train[:2] else "second" for event in train})
    whole = by_start(reader_of(grouped, False).read(range(12)))
    placebo = reader_of(grouped).read(range(12))
    for event, fields in zip(placebo.event.tolist(), placebo.radar, strict=True):
        assert (event in train[:2]) != (donor_of(fields, whole)[0] in train[:2])
    alone = replace(shards, groups=dict.fromkeys(train, "one day"))
    with pytest.raises(BadInput, match=r"the train split of .*there is one group only"):
        reader_of(alone)


def test_every_read_and_reader_has_the_same_donors(shards: Manifest) -> None:
    together = reader_of(shards).read(range(8)).radar
    apart = torch.cat([reader_of(shards, budget=0).read([number]).radar for number in range(8)])
    assert torch.equal(together, apart)


def test_training_draws_a_new_donor_in_each_epoch_and_resumes_exactly(shards: Manifest) -> None:
    reader = reader_of(shards)
    sampler = TrainSampler(reader, whole_shuffle(reader, 5), 5)
    windows = len(reader)
    batch = sampler.read(np.arange(10 * windows))
    whole = by_start(reader_of(shards, False).read(range(windows)))
    drawn: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for event, frame, fields in zip(batch.event.tolist(), batch.frame.tolist(), batch.radar, strict=True):
        drawn.setdefault((event, frame), set()).add(donor_of(fields, whole))
    assert min(len(donors) for donors in drawn.values()) > 2
    again = TrainSampler(reader_of(shards), whole_shuffle(reader, 5), 5)
    for part in (np.arange(7, 19), np.arange(3, 40, 4)):
        assert torch.equal(again.read(part).radar, batch.radar[torch.from_numpy(part)])


def test_crops_and_turns_apply_to_own_and_donated_fields_alike(shards: Manifest) -> None:
    reader, position = reader_of(shards), np.arange(12)
    order = whole_shuffle(reader, 2)
    plain = TrainSampler(reader, order, 2).read(position)
    turned = TrainSampler(reader, order, 2, transforms=[partial(crop, side=16), flip_rotate]).read(position)
    assert torch.equal(flip_rotate(crop(plain, position, 2, side=16), position, 2).radar, turned.radar)


def test_streams_read_donors_of_other_shards(shards: Manifest) -> None:
    reader = reader_of(shards, patience=Patience(retries=0))
    sampler = TrainSampler(reader, block_shuffle(reader, 0, 0.0, 2, 1), 0)
    sampler.expect(np.arange(12))
    batch = sampler.read(np.arange(12))
    whole = by_start(reader_of(shards, False).read(range(12)))
    for event, fields in zip(batch.event.tolist(), batch.radar, strict=True):
        assert donor_of(fields, whole)[0] != event


def test_streams_keep_to_the_shard_of_the_window_where_it_has_another_group(shards: Manifest) -> None:
    reader = reader_of(shards, patience=Patience(retries=0))
    windows = reader.windows
    # As if the events lay in pairs in two shards.
    pairs = np.searchsorted(np.unique(reader.events()), reader.events()) // 2
    paired = Donors(reader.events(), pools=pairs).of(np.arange(len(windows)), drawn_keys(0, np.arange(len(windows))))
    assert (pairs[paired] == pairs).all()
    assert (reader.events()[paired] != reader.events()).all()


def test_donor_in_a_bad_shard_is_replaced_alike_whether_known_or_found(shards: Manifest, tmp_path: Path) -> None:
    copied = read_manifest(shutil.copytree(shards.folder, tmp_path / "shards"))
    sampler = TrainSampler(reader_of(copied), whole_shuffle(reader_of(copied), 0), 0, max_bad_share=0.5)
    bad = int(reader_of(copied).windows.used_shards()[0])
    (copied.folder / copied.shards[bad].name).unlink()
    found = sampler.read(np.arange(40))
    known = TrainSampler(reader_of(copied), whole_shuffle(reader_of(copied), 0), 0, max_bad_share=0.5)
    known.exclude({bad: "missing"})
    assert torch.equal(known.read(np.arange(40)).radar, found.radar)
    lost = set(copied.by_shard()[bad][:, 1].tolist())
    assert not lost & set(found.event.tolist())


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=30).filter(lambda g: len(set(g)) > 1),
    st.integers(0, 2**40),
    st.booleans(),
    st.data(),
)
def test_donor_is_never_of_the_own_group(groups: list[int], seed: int, pooled: bool, data: st.DataObject) -> None:
    n = len(groups)
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 1e-12, 1.0, 30.0]), min_size=n, max_size=n))) + 1e-15
    pools = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))) if pooled else None
    label = np.array(groups)
    windows = np.tile(np.arange(n), 20)
    donors = Donors(label, weights, pools).of(windows, drawn_keys(seed, np.arange(len(windows))))
    assert (label[donors] != label[windows]).all()
    if pools is not None:
        possible = np.array([(label[pools == pools[w]] != label[w]).any() for w in range(n)])
        assert (pools[donors] == pools[windows])[possible[windows]].all()


def test_donors_are_drawn_by_weight() -> None:
    groups, weights = np.arange(4), np.array([1.0, 2.0, 3.0, 4.0])
    donors = Donors(groups, weights).of(np.zeros(30_000, np.int64), drawn_keys(1, np.arange(30_000)))
    counts = np.bincount(donors, minlength=4) / 30_000
    assert counts == pytest.approx([0, 2 / 9, 3 / 9, 4 / 9], abs=0.015)


def test_balanced_training_draws_donors_in_proportion_to_heavy_rain(shards: Manifest) -> None:
    reader = reader_of(shards)
    assert donors_of(reader, 0.0) is reader.donors
    weighted = donors_of(reader, 1.0)
    assert weighted is not None
    own = np.zeros(20_000, np.int64)
    drawn = weighted.of(own, drawn_keys(0, np.arange(20_000)))
    intensity = reader.windows.intensity()
    others = reader.events() != reader.events()[0]
    expected = (intensity[others] ** 2).sum() / intensity[others].sum()
    assert intensity[drawn].mean() == pytest.approx(expected, rel=0.03)


def test_marginal_distribution_is_that_of_the_split() -> None:
    """With equal groups, each window is donor equally often, over the draws of many epochs."""
    groups = np.repeat(np.arange(10), 6)
    windows = np.tile(np.arange(60), 1000)
    donors = Donors(groups).of(windows, drawn_keys(3, np.arange(len(windows))))
    counts = np.array([Counter(donors.tolist())[w] for w in range(60)])
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_fixed_keys_depend_on_event_and_frame_only() -> None:
    begins = np.array([[1, 0], [1, 1], [2, 0]])
    keys = fixed_keys(begins)
    assert len(set(keys.tolist())) == 3
    assert fixed_keys(begins[1:]).tolist() == keys[1:].tolist()


def test_reader_without_placebo_has_no_donors(shards: Manifest) -> None:
    assert reader_of(shards, placebo=False).donors is None
