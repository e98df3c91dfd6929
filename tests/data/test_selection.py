"""Archives without some variable or height, cleaning of frames, and the window filter."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import open_reader
from polarcast.data.selection import Selection
from polarcast.data.shards.samples import FRAME
from polarcast.data.shards.write import write_shards

WEAK, STRONG = 20.0, 40.0


@pytest.fixture
def copy(archive: Archive, tmp_path: Path) -> Path:
    """Copy of the archive that a test may change."""
    shutil.copytree(archive.root, tmp_path / "archive")
    return tmp_path / "archive"


def _storm(frames: int, strong_frames: set[int], strong_pixels: int = 256) -> np.ndarray:
    """Radar (t, v, z, y, x) of 32 × 32 pixels with weak echo everywhere, and strong echo at 3 km in some frames."""
    radar = np.full((frames, 3, 3, 32, 32), WEAK, np.float32)
    for frame in strong_frames:
        radar[frame, 0, 1].flat[:strong_pixels] = STRONG
    return radar


@pytest.mark.parametrize("absent", ["ZDR", "KDP"])
def test_an_archive_without_a_variable_can_be_read_without_it(copy: Path, absent: str, tmp_path: Path) -> None:
    shutil.rmtree(copy / "NJU_CPOL_update2308" / absent)
    manifest = write_shards(open_archive(copy), tmp_path / "shards")
    assert absent.lower() not in manifest.variables
    assert len(open_reader(manifest, "test", variables=("zh",), heights_km=(3.0,)))
    with pytest.raises(BadInput, match=f"no variable {absent.lower()}"):
        open_reader(manifest, "test", variables=("zh", absent.lower()), heights_km=(3.0,))


def test_an_archive_without_rain_can_be_read_for_nowcasting_only(copy: Path, archive: Archive, tmp_path: Path) -> None:
    shutil.rmtree(copy / "NJU_CPOL_kdpRain")
    found = open_archive(copy)
    assert found.frames == archive.frames
    manifest = write_shards(found, tmp_path / "shards")
    batch = open_reader(manifest, "train", variables=("zh",), heights_km=(1.0,), frames=2, rain=False).read([0])
    assert batch.rain is None
    with pytest.raises(ValueError, match="without rain"):
        _ = batch.rain_rate
    with pytest.raises(BadInput, match="no rain rate"):
        open_reader(manifest, "train", variables=("zh",), heights_km=(1.0,))
    members = {key for sample in wds.WebDataset(str(manifest.folder / "shard-000000.tar"), shardshuffle=False)
               for key in sample if not key.startswith("__")}  # fmt: skip
    assert members == {"radar.npy", "observed.npy", "json"}


def test_a_height_missing_for_one_variable_can_be_selected_for_the_others(copy: Path) -> None:
    shutil.rmtree(copy / "NJU_CPOL_update2308" / "KDP" / "7.0km")
    found = open_archive(copy)
    assert found.heights_km == (1.0, 3.0)
    assert found.select(["zh", "zdr"]).heights_km == (1.0, 3.0, 7.0)
    with pytest.raises(BadInput, match=r"no height 7\.0"):
        found.select(["zh", "kdp"], [7.0])


def test_an_archive_without_reflectivity_is_rejected(copy: Path) -> None:
    shutil.rmtree(copy / "NJU_CPOL_update2308" / "dBZ")
    with pytest.raises(BadInput, match="no dBZ folder"):
        open_archive(copy)


def test_cleaning_removes_and_records_a_frame_with_one_empty_field(tmp_path: Path) -> None:
    radar = _storm(5, {1})
    radar[2, 1, 2] = 0  # ZDR at 7 km
    write_event(tmp_path / "a", 4, radar, np.ones((5, 32, 32), np.float32))
    manifest = write_shards(open_archive(tmp_path / "a"), tmp_path / "s", selection=Selection(clean=True))
    assert manifest.by_shard()[0][:, 1 + FRAME].tolist() == [0, 1, 3, 4]
    assert manifest.selection["removed_frames"] == {"004": [2]}
    starts = open_reader(manifest, "test", variables=("zh",), heights_km=(1.0,), frames=2)
    assert starts.read(range(len(starts))).frame.tolist() == [0, 3]


def test_without_cleaning_every_frame_is_packed(tmp_path: Path) -> None:
    write_event(tmp_path / "a", 0, np.zeros((3, 3, 3, 32, 32), np.float32), np.zeros((3, 32, 32), np.float32))
    manifest = write_shards(open_archive(tmp_path / "a"), tmp_path / "s")
    assert len(manifest.by_shard()[0]) == 3
    with pytest.raises(BadInput, match="no frame is left"):
        write_shards(open_archive(tmp_path / "a"), tmp_path / "t", selection=Selection(clean=True))
    assert not (tmp_path / "t").exists()


def test_the_window_filter_checks_target_frames_only(tmp_path: Path) -> None:
    write_event(tmp_path / "a", 0, _storm(8, {4}), np.ones((8, 32, 32), np.float32))
    manifest = write_shards(open_archive(tmp_path / "a"), tmp_path / "s", selection=Selection(min_strong_pixels=256))
    reader = open_reader(manifest, "test", variables=("zh",), heights_km=(3.0,), frames=4, targets=2)
    # Windows of 4 frames with frame 4 among the last two.
    assert reader.read(range(len(reader))).frame.tolist() == [1, 2]
    assert manifest.selection["min_strong_pixels"] == 256


def test_a_window_with_one_strong_pixel_too_few_is_filtered_out(tmp_path: Path) -> None:
    write_event(tmp_path / "a", 0, _storm(4, {1}, strong_pixels=255), np.ones((4, 32, 32), np.float32))
    manifest = write_shards(open_archive(tmp_path / "a"), tmp_path / "s", selection=Selection(min_strong_pixels=256))
    with pytest.raises(BadInput, match="4 have too little strong echo"):
        open_reader(manifest, "test", variables=("zh",), heights_km=(3.0,))


def test_the_window_filter_requires_its_height(copy: Path, tmp_path: Path) -> None:
    found = open_archive(copy).select(heights_km=[1.0])
    with pytest.raises(BadInput, match=r"counts pixels at 3\.0 km"):
        write_shards(found, tmp_path / "s", selection=Selection(min_strong_pixels=256))


def test_events_of_different_lengths_keep_their_lengths(tmp_path: Path) -> None:
    for event, frames in ((3, 23), (17, 40)):
        write_event(tmp_path / "a", event, _storm(frames, {0}), np.ones((frames, 32, 32), np.float32))
    manifest = write_shards(open_archive(tmp_path / "a"), tmp_path / "s")
    reader = open_reader(manifest, "test", variables=("zh",), heights_km=(1.0,), frames=20)
    assert len(reader) == (23 - 19) + (40 - 19)


def test_values_far_outside_the_nominal_ranges_are_kept(tmp_path: Path) -> None:
    radar = _storm(1, set())
    radar[0, :, 0, 0, :2] = [[-39.97, 99.68], [-32.3, 35.28], [-16.62, 52.45]]
    rain = np.full((1, 32, 32), 1225.708, np.float32)
    write_event(tmp_path / "a", 0, radar, rain)
    manifest = write_shards(open_archive(tmp_path / "a"), tmp_path / "s")
    batch = open_reader(manifest, "test", variables=("zh", "zdr", "kdp"), heights_km=(1.0,)).read([0])
    np.testing.assert_allclose(batch.radar[0, 0, :, 0, 0, :2].float().numpy(), radar[0, :, 0, 0, :2], rtol=1e-3)
    assert float(batch.rain_rate.max()) == pytest.approx(1225.708, rel=1e-3)
