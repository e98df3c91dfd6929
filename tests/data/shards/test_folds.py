"""Shards of a fold: their note, their check, and the donors of a placebo."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive
from polarcast.data.check.shards import check_shards
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Archive of three events."""
    root = tmp_path_factory.mktemp("three")
    write_archive(root, 3, size=32, seed=4, preset="tiny", frames=3)
    return open_archive(root)


@pytest.fixture(scope="module")
def fold(three: Archive, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("fold") / "shards"
    write_shards(three, out, split="leave-one-out/2", shard_mb=0)
    return read_manifest(out)


def reader_of(manifest: Manifest, split: str, placebo: bool = True) -> Reader:
    return open_reader(manifest, split, variables=("zh", "zdr"), heights_km=(1.0,), placebo=placebo)


def test_the_manifest_says_what_was_validated_on(fold: Manifest, archive: Archive, tmp_path: Path) -> None:
    second = sorted({event for events in fold.splits.values() for event in events})[1]
    assert fold.splits["train"] == fold.splits["validation"]
    assert fold.splits["test"] == (second,)
    assert fold.provenance["split"].startswith("leave-one-out/2: validated on the training events")
    larger = write_shards(archive, tmp_path / "larger", split="leave-one-out/1")
    assert larger.provenance["split"] == "leave-one-out/1: validated on other groups"
    assert [len(larger.splits[name]) for name in ("train", "validation", "test")] == [6, 1, 1]
    usual = write_shards(archive, tmp_path / "usual", split="0.5/0.25/0.25")
    assert "split" not in usual.provenance
    assert (fold.is_fold, larger.is_fold, usual.is_fold) == (True, True, False)


def test_a_fold_passes_its_check_and_a_leak_does_not(fold: Manifest) -> None:
    findings = {finding.where: finding for finding in check_shards(fold)}
    assert not [finding for finding in findings.values() if finding.severity == "failure"]
    assert "validated on the training events" in findings["splits"].found
    tested = fold.splits["test"]
    leaking = replace(fold, splits={**fold.splits, "validation": (*fold.splits["validation"], *tested)})
    unnoted = replace(fold, provenance={**fold.provenance, "split": ""})
    for wrong in (leaking, unnoted):
        assert not next(finding for finding in check_shards(wrong, fast=True) if finding.where == "splits").ok


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_placebo_has_donors_of_other_groups(fold: Manifest, split: str) -> None:
    """The one group of the test split borrows from the others, whose ZDR it can't have by itself."""
    placebo, own = reader_of(fold, split), reader_of(fold, split, placebo=False)
    every = reader_of(replace(fold, splits={**fold.splits, "test": tuple(range(100))}), "test", placebo=False)
    zdr_of = {tuple(begin): every.read([number]).radar[0, 0, 1] for number, begin in enumerate(begins(every))}
    batch, whole = placebo.read(range(len(placebo))), own.read(range(len(own)))
    assert len(placebo) == len(own) == 3 * len(fold.splits[split])
    for event, mine, radar in zip(batch.event.tolist(), batch.radar[:, 0], whole.radar[:, 0], strict=True):
        assert (mine[0] == radar[0]).all()
        donors = [begin for begin, zdr in zdr_of.items() if (zdr == mine[1]).all()]
        assert donors
        assert all(donor != event for donor, _ in donors)


def begins(reader: Reader) -> list[list[int]]:
    found: list[list[int]] = reader.windows.begins(np.arange(len(reader))).tolist()
    return found


def test_donors_are_verified_too(fold: Manifest) -> None:
    assert set(reader_of(fold, "test").used_shards().tolist()) == {0, 1, 2}
    assert len(reader_of(fold, "test", placebo=False).used_shards()) == 1


def test_other_splits_of_one_group_have_no_donors(fold: Manifest) -> None:
    with pytest.raises(BadInput, match=r"the test split of .*there is one group only"):
        reader_of(replace(fold, provenance={}), "test")
