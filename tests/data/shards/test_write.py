import io
import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from polarcast.data.archive import Archive, open_archive
from polarcast.data.check.shards import check_shards as check
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import open_reader
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.samples import EVENT
from polarcast.data.shards.write import write_shards


@pytest.fixture
def copied(shards: Manifest, tmp_path: Path) -> Manifest:
    """Copy of the shards that a test may damage."""
    shutil.copytree(shards.folder, tmp_path / "copy")
    return read_manifest(tmp_path / "copy")


def test_plain_webdataset_reads_the_shards(shards: Manifest, archive: Archive) -> None:
    urls = [str(shards.folder / s.name) for s in shards.shards]
    samples = list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert len(samples) == sum(map(len, archive.frames.values()))
    for sample in samples:
        note = json.loads(sample["json"])
        assert sample["__key__"] == f"{note['event']:03d}-{note['frame']:03d}"
        radar, rain = (np.load(io.BytesIO(sample[k])) for k in ("radar.npy", "rain.npy"))
        np.testing.assert_array_equal(radar, archive.read_radar(note["event"], note["frame"]).astype(np.float16))
        np.testing.assert_array_equal(rain, archive.read_rain(note["event"], note["frame"]).astype(np.float16))


def test_mapped_frames_equal_the_archive(shards: Manifest, archive: Archive) -> None:
    for split, events in shards.splits.items():
        reader = open_reader(shards, split, variables=("zdr", "zh"), heights_km=(7.0, 1.0))
        assert len(reader) == sum(len(archive.frames[e]) for e in events)
        batch = reader.read(range(len(reader)))
        for i, (event, frame) in enumerate(zip(batch.event.tolist(), batch.frame.tolist(), strict=True)):
            expected = archive.read_radar(event, frame)[np.ix_([1, 0], [2, 0])].astype(np.float16)
            np.testing.assert_array_equal(batch.radar[i, 0].numpy(), expected)


def test_no_event_is_in_two_splits_or_two_shards(shards: Manifest) -> None:
    for one, other in combinations(shards.splits.values(), 2):
        assert set(one).isdisjoint(other)
    events = [set(shards.by_shard()[i][:, 1 + EVENT].tolist()) for i in range(len(shards.shards))]
    assert len(events) > 1
    for a, b in combinations(events, 2):
        assert a.isdisjoint(b)


def test_the_same_archive_gives_the_same_bytes(archive: Archive, shards: Manifest, tmp_path: Path) -> None:
    again = write_shards(archive, tmp_path / "again", split="0.5/0.25/0.25", shard_mb=0)
    assert again.digest() == shards.digest()


def test_another_split_changes_the_digest(archive: Archive, shards: Manifest, tmp_path: Path) -> None:
    assert write_shards(archive, tmp_path / "s", split="all-test").digest() != shards.digest()


def test_statistics_are_of_the_training_events_only(shards: Manifest, archive: Archive) -> None:
    frames = [archive.read_radar(e, f).astype(np.float16) for e in shards.splits["train"] for f in archive.frames[e]]
    zh, zdr = (np.stack([f[v, 1] for f in frames]).astype(np.float64) for v in (0, 1))
    expected = zdr[zh != 0]
    found = shards.statistics["zdr_3.0km"]
    assert found["count"] == expected.size
    assert found["mean"] == pytest.approx(expected.mean(), rel=1e-9)
    assert found["std"] == pytest.approx(expected.std(), rel=1e-9)
    assert (found["min"], found["max"]) == (expected.min(), expected.max())


def test_a_bad_frame_leaves_no_files_behind(archive: Archive, tmp_path: Path) -> None:
    shutil.copytree(archive.root, tmp_path / "archive")
    broken = open_archive(tmp_path / "archive")
    np.save(broken.rain_file(5, 2), np.zeros((31, 32), np.float32))
    with pytest.raises(BadInput, match=r"frame_002\.npy"):
        write_shards(broken, tmp_path / "shards", split="all-test")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive"]


@pytest.mark.parametrize(("value", "message"), [(-1.0, "negative"), (1e6, "1e\\+06")])
def test_unphysical_values_are_rejected(archive: Archive, tmp_path: Path, value: float, message: str) -> None:
    shutil.copytree(archive.root, tmp_path / "archive")
    broken = open_archive(tmp_path / "archive")
    np.save(broken.rain_file(5, 2), np.full((32, 32), value, np.float32))
    with pytest.raises(BadInput, match=message):
        write_shards(broken, tmp_path / "shards", split="all-test")


def test_shards_are_not_overwritten(shards: Manifest, archive: Archive) -> None:
    with pytest.raises(BadInput, match="not empty"):
        write_shards(archive, shards.folder)


def test_intact_shards_pass_the_check(shards: Manifest) -> None:
    assert all(f.ok for f in check(shards))


def test_the_check_finds_a_flipped_bit(copied: Manifest) -> None:
    damaged = copied.folder / copied.shards[1].name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert [f.where for f in check(copied) if not f.ok] == [damaged.name]


def test_a_truncated_shard_is_found_by_check_and_reader(copied: Manifest) -> None:
    truncated = copied.folder / copied.shards[0].name
    truncated.write_bytes(truncated.read_bytes()[:-512])
    assert [f.where for f in check(copied) if not f.ok] == [truncated.name]
    event = copied.by_shard()[0][0, 1 + EVENT]
    split = next(name for name, events in copied.splits.items() if event in events)
    reader = open_reader(copied, split, variables=("zh",), heights_km=(1.0,))
    with pytest.raises(BadInput, match=truncated.name):
        reader.read(range(len(reader)))


def test_the_check_finds_an_event_in_two_splits(shards: Manifest) -> None:
    leaky = {**shards.splits, "test": (*shards.splits["test"], shards.splits["train"][0])}
    assert [f.where for f in check(replace(shards, splits=leaky)) if not f.ok] == ["splits"]


@pytest.mark.parametrize("content", ["{", '{"format": "polarcast-shards/0"}', "[]", '{"format": "polarcast-shards/3"}'])
def test_a_damaged_manifest_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BadInput, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_the_shards_do_not_depend_on_the_number_of_workers(archive: Archive, shards: Manifest, tmp_path: Path) -> None:
    two = write_shards(archive, tmp_path / "two", split="0.5/0.25/0.25", shard_mb=0, workers=2)
    assert two.digest() == shards.digest()
    assert two.statistics == shards.statistics
    assert sorted(p.name for p in two.folder.iterdir()) == sorted(p.name for p in shards.folder.iterdir())


class _Killed(BaseException):
    """Simulates SIGKILL: not caught by any handler, so nothing cleans up."""


def _killed_after_three_events(archive: Archive, out: Path) -> Path:
    def stop(events: int) -> None:
        if events == 3:
            raise _Killed

    with pytest.raises(_Killed):
        write_shards(archive, out, split="0.5/0.25/0.25", shard_mb=0, on_event=stop)
    return out.with_name(f".partial_{out.name}")


def test_a_killed_run_leaves_no_shards_and_the_next_run_resumes(
    archive: Archive, shards: Manifest, tmp_path: Path
) -> None:
    partial = _killed_after_three_events(archive, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    kept = {p.name: p.stat().st_ino for p in partial.glob("*.tar")}
    assert len(kept) == 3
    again = write_shards(archive, tmp_path / "s", split="0.5/0.25/0.25", shard_mb=0)
    assert again.digest() == shards.digest()
    assert again.statistics == shards.statistics
    assert {name: (again.folder / name).stat().st_ino for name in kept} == kept
    assert not partial.exists()


def test_partial_shards_of_other_data_are_not_reused(archive: Archive, tmp_path: Path) -> None:
    shutil.copytree(archive.root, tmp_path / "archive")
    changed = open_archive(tmp_path / "archive")
    _killed_after_three_events(changed, tmp_path / "s")
    rain = changed.rain_file(0, 0)
    np.save(rain, np.load(rain) + 1)
    manifest = write_shards(changed, tmp_path / "s", split="all-test")
    reader = open_reader(manifest, "test", variables=("zh",), heights_km=(1.0,))
    assert float(reader.read([0]).rain_rate.min()) >= 1
