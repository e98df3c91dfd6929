"""Masks of observed pixels from the archive through shards into batches; shards without masks stay as they were."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from polarcast.data.archive import open_archive, write_event
from polarcast.data.check.shards import check_shards
from polarcast.data.errors import BadInput
from polarcast.data.loading.augment import crop, flip_rotate
from polarcast.data.loading.dataset import concatenate, open_shards
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.shards.adopt import ShardLayout, adopt
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import FORMAT, UNMASKED_FORMAT, Manifest, read_manifest
from polarcast.data.shards.samples import COLUMNS, OBSERVED, RADAR, from_runs, to_runs
from polarcast.data.shards.staging import stage
from polarcast.data.shards.write import write_shards

HEIGHTS = (1.0, 3.0, 7.0)
SHAPE = (11, 9)
FRAMES = 5
GROUND = len(HEIGHTS)


def observed_of(event: int) -> np.ndarray:
    """Masks (t, levels, y, x) that differ at every frame and level."""
    return np.random.default_rng(event).random((FRAMES, GROUND + 1, *SHAPE)) < 0.7


def fields_of(event: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([event, 1])
    return (
        rng.random((FRAMES, 2, len(HEIGHTS), *SHAPE), np.float32) + 1,
        rng.random((FRAMES, *SHAPE), np.float32) * (rng.random((FRAMES, *SHAPE)) < 0.5),
    )


def write_archive(root: Path, masked: tuple[int, ...], events: int = 3) -> None:
    for event in range(events):
        radar, rain = fields_of(event)
        write_event(
            root, event, radar, rain, variables=("zh", "zdr"), heights_km=HEIGHTS,
            observed=observed_of(event) if event in masked else None,
        )  # fmt: skip


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Shards of three events, a tar each; the second has no masks."""
    root = tmp_path_factory.mktemp("masked")
    write_archive(root / "archive", masked=(0, 2))
    write_shards(open_archive(root / "archive"), root / "shards", split="all-test", shard_mb=0)
    return read_manifest(root / "shards")


SOURCES = {"mapped": (None, None), "read": (None, 0), "streamed": (Patience(retries=0), None)}


def open_nowcast(manifest: Manifest, source: str, observed: bool = True) -> Reader:
    patience, budget = SOURCES[source]
    return open_reader(
        manifest, "test", variables=("zdr",), heights_km=(7.0, 1.0), frames=4, targets=2, future=True, rain=False,
        observed=observed, patience=patience, budget=budget,
    )  # fmt: skip


def open_qpe(manifest: Manifest, source: str, context: int = 0) -> Reader:
    patience, budget = SOURCES[source]
    return open_reader(
        manifest, "test", variables=("zh",), heights_km=(3.0,), context=context, observed=True, patience=patience,
        budget=budget,
    )  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_a_nowcast_reads_the_masks_of_its_targets_and_of_the_last_input(masked: Manifest, source: str) -> None:
    reader = open_nowcast(masked, source)
    batch = reader.read(range(len(reader)))
    assert batch.observed is not None
    assert batch.last_observed is not None
    assert (batch.observed.dtype, batch.observed.shape) == (torch.bool, (6, 2, 2, *SHAPE))
    for i, (event, first) in enumerate(zip(batch.event.tolist(), batch.frame.tolist(), strict=True)):
        masks = observed_of(event) if event != 1 else np.ones_like(observed_of(event))
        np.testing.assert_array_equal(batch.observed[i], masks[first + 2 : first + 4, [2, 0]])
        np.testing.assert_array_equal(batch.last_observed[i], masks[first + 1, [2, 0]])


@pytest.mark.parametrize(("source", "context"), product(SOURCES, (0, 2)))
def test_an_estimate_reads_the_mask_of_the_rain_of_its_last_frame(masked: Manifest, source: str, context: int) -> None:
    reader = open_qpe(masked, source, context)
    batch = reader.read(range(len(reader)))
    assert batch.observed is not None
    assert batch.last_observed is None
    assert batch.observed.shape == (3 * FRAMES, 1, 1, *SHAPE)
    for i, (event, frame) in enumerate(zip(batch.event.tolist(), batch.frame.tolist(), strict=True)):
        mask = observed_of(event)[frame, GROUND] if event != 1 else np.ones(SHAPE, bool)
        np.testing.assert_array_equal(batch.observed[i, 0, 0], mask)


def test_masks_are_read_only_where_they_are_wanted_and_there(masked: Manifest, tmp_path: Path) -> None:
    assert open_nowcast(masked, "mapped", observed=False).read([0]).observed is None
    write_archive(tmp_path / "archive", masked=())
    plain = write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards", split="all-test")
    assert open_nowcast(plain, "mapped").read([0]).observed is None
    reader = open_reader(masked, "test", variables=("zh",), heights_km=(3.0,), rain=False, observed=True)
    assert reader.read([0]).observed is None


def test_the_fields_do_not_depend_on_the_masks(masked: Manifest) -> None:
    with_masks, without = (open_nowcast(masked, "mapped", observed).read([0, 5]) for observed in (True, False))
    assert torch.equal(with_masks.radar, without.radar)
    assert torch.equal(with_masks.required_target_zh, without.required_target_zh)


def test_a_batch_carries_its_masks_through_transforms_copies_and_joins(masked: Manifest) -> None:
    batch = open_qpe(masked, "mapped").read(range(4))
    assert batch.observed is not None
    positions = np.arange(4)
    marked = replace(batch, rain=batch.observed[:, :, 0].half())
    for changed in (crop(marked, positions, 0, 5), flip_rotate(marked, positions, 3), marked.to("cpu")):
        assert changed.observed is not None
        assert changed.observed.dtype == torch.bool
        assert torch.equal(changed.observed[:, 0, 0].float(), changed.rain_rate[:, 0].float())
    joined = concatenate([batch, batch])
    assert joined.observed is not None
    assert torch.equal(joined.observed, torch.cat([batch.observed] * 2))


def test_the_data_set_reads_masks_in_workers(masked: Manifest) -> None:
    data = open_shards(masked.folder, "test", lead_frames=2, observed=True)
    loader = DataLoader(data, batch_size=3, num_workers=1, collate_fn=data.collate)
    for batch in loader:
        for i, (event, first) in enumerate(zip(batch.event.tolist(), batch.frame.tolist(), strict=True)):
            if event != 1:
                np.testing.assert_array_equal(batch.observed[i], observed_of(event)[first + 1 : first + 3, :GROUND])
    assert open_shards(masked.folder, "test")[0].observed is None


def test_copied_and_adopted_shards_have_the_same_masks(masked: Manifest, tmp_path: Path) -> None:
    staged = stage(masked, tmp_path / "node")
    assert staged.folder != masked.folder
    for shard in masked.shards:
        (tmp_path / shard.name).symlink_to(masked.folder / shard.name)
    adopted = adopt(tmp_path, ShardLayout(("zh", "zdr"), HEIGHTS), split="all-test")
    np.testing.assert_array_equal(adopted.samples, masked.samples)
    assert adopted.statistics == masked.statistics
    wanted = open_qpe(masked, "mapped").read([1, 7, 12]).observed
    for other in (staged, read_manifest(tmp_path)):
        found = open_qpe(other, "mapped").read([1, 7, 12]).observed
        assert found is not None
        assert wanted is not None
        assert torch.equal(found, wanted)


def test_statistics_of_rain_count_the_observed_pixels_only(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", masked=(0, 1, 2))
    manifest = write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards", split="0.34/0.33/0.33")
    events = manifest.splits["train"]
    rain = np.concatenate([fields_of(e)[1].astype(np.float16)[observed_of(e)[:, GROUND]] for e in events])
    found = manifest.statistics["rain_rate"]
    assert found["mean"] == pytest.approx(rain.mean(dtype=np.float64), rel=1e-12)
    assert found["wet_fraction"] == pytest.approx((rain > 0.1).mean(), rel=1e-12)
    assert not [f for f in check_shards(manifest) if not f.ok and f.where == "statistics"]


def test_the_check_finds_masks_that_are_not_at_their_offset(masked: Manifest, tmp_path: Path) -> None:
    assert not [f for f in check_shards(masked) if not f.ok and f.where.endswith(".tar")]
    samples = masked.samples.copy()
    samples[3, 1 + OBSERVED] += 2
    wrong = [f for f in check_shards(replace(masked, samples=samples), fast=True) if not f.ok]
    assert [f.where for f in wrong] == [masked.shards[0].name]
    assert "frame 3 of event 000" in wrong[0].found


def test_a_manifest_with_masks_is_read_as_it_was_written(masked: Manifest, tmp_path: Path) -> None:
    assert json.loads(masked.to_json())["format"] == FORMAT
    shutil.copytree(masked.folder, tmp_path / "copy")
    again = read_manifest(tmp_path / "copy")
    np.testing.assert_array_equal(again.samples, masked.samples)
    assert again.digest() == masked.digest()


def test_runs_describe_any_table() -> None:
    rng = np.random.default_rng(0)
    table = np.zeros((60, len(COLUMNS)), np.int64)
    table[:, 0], table[:, 1] = np.repeat(np.arange(6), 10), np.tile(np.arange(10), 6)
    table[:, RADAR] = 1000 * np.arange(60) + rng.choice([0, 2], 60, p=[0.8, 0.2])
    table[:, 3] = np.where(rng.random(60) < 0.8, table[:, RADAR] + 100, -1)
    table[:, OBSERVED] = np.where(rng.random(60) < 0.8, table[:, RADAR] + rng.choice([200, 202], 60), -1)
    runs = to_runs(table)
    np.testing.assert_array_equal(from_runs(np.array(runs)), table)


def test_shards_without_masks_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """The digest below is that of the version before masks."""
    write_archive(tmp_path / "archive", masked=())
    manifest = write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards", split="all-test", shard_mb=0)
    stored = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert stored["format"] == UNMASKED_FORMAT
    assert stored["run_columns"] == ["event", "frame", "frames", "radar_offset", "rain_offset", "stride"]
    assert {len(run) for shard in stored["shards"] for run in shard["runs"]} == {6}
    assert not manifest.has_masks
    assert read_manifest(tmp_path / "shards").digest() == DIGEST_BEFORE


DIGEST_BEFORE = "10abca89968fb2b39cdb8c38943f0f51c0703afc1cfe8b0e3b8f468098ee19c1"


def test_masks_of_another_grid_are_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", masked=(1,))
    odd = open_archive(tmp_path / "archive").observed_file(1)
    with np.load(odd) as content:
        np.savez(odd, **{**content, "shape": np.array(SHAPE[::-1])})
    with pytest.raises(BadInput, match=r"data_dir_001\.npz"):
        write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards", split="all-test")
    assert not (tmp_path / "shards").exists()
