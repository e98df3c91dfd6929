from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import HEIGHTS_KM, VARIABLES, Archive, complete_events, open_archive, write_event
from polarcast.data.errors import BadInput
from polarcast.data.field_file import read_field


def _event(frames: int = 3, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(frames)
    shape = (frames, len(VARIABLES), len(HEIGHTS_KM), size, size)
    return rng.normal(size=shape).astype(np.float32), rng.random((frames, size, size)).astype(np.float32)


def test_write_and_read_round_trip_is_exact(tmp_path: Path) -> None:
    radar, rain = _event()
    write_event(tmp_path, 7, radar, rain)
    found = open_archive(tmp_path)
    assert found.frames == {7: (0, 1, 2)}
    np.testing.assert_array_equal(np.stack([found.read_radar(7, f) for f in found.frames[7]]), radar)
    np.testing.assert_array_equal(np.stack([found.read_rain(7, f) for f in found.frames[7]]), rain)


def test_radar_folders_next_to_the_rain_folder_are_found(tmp_path: Path) -> None:
    radar, rain = _event()
    write_event(tmp_path / "published", 0, radar, rain)
    flat = tmp_path / "flat"
    (tmp_path / "published" / "NJU_CPOL_update2308").rename(flat)
    (tmp_path / "published" / "NJU_CPOL_kdpRain").rename(flat / "NJU_CPOL_kdpRain")
    np.testing.assert_array_equal(open_archive(flat).read_radar(0, 1), radar[1])


def test_rain_is_found_next_to_the_radar_folder(tmp_path: Path) -> None:
    radar, rain = _event()
    write_event(tmp_path, 0, radar, rain)
    np.testing.assert_array_equal(open_archive(tmp_path / "NJU_CPOL_update2308").read_rain(0, 2), rain[2])


def test_an_event_without_rain_after_a_kill_is_not_complete(tmp_path: Path) -> None:
    radar, rain = _event()
    write_event(tmp_path, 0, radar, rain)
    write_event(tmp_path, 1, radar, rain)
    # A kill between the renames leaves the radar folders of event 1 without its rain, which is renamed last.
    (tmp_path / "NJU_CPOL_kdpRain" / "data_dir_001").rename(tmp_path / "lost")
    assert complete_events(tmp_path) == {0}
    assert list(open_archive(tmp_path).frames) == [0]
    write_event(tmp_path, 1, radar, rain)
    assert complete_events(tmp_path) == {0, 1}


def test_error_for_a_truncated_file_names_the_file(tmp_path: Path) -> None:
    radar, rain = _event()
    write_event(tmp_path, 0, radar, rain)
    found = open_archive(tmp_path)
    broken = found.radar_file("zdr", 3.0, 0, 1)
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"frame_001\.npy") as caught:
        found.read_radar(0, 1)
    assert str(broken) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 4, 4), np.float32), "shape"),
        (np.full((4, 4), np.nan, np.float32), "100.0% of the values are not finite"),
        (np.array([[1, np.inf]], np.float32), "not finite"),
    ],
)
def test_invalid_values_are_rejected(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "f.npy", values)
    with pytest.raises(BadInput, match=message):
        read_field(tmp_path / "f.npy")


@pytest.mark.parametrize("prepare", [lambda p: p / "nowhere", lambda p: p])
def test_a_folder_without_an_archive_is_rejected(tmp_path: Path, prepare) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput):
        open_archive(prepare(tmp_path))


def test_fields_of_different_shape_within_a_frame_are_rejected(tmp_path: Path) -> None:
    radar, rain = _event()
    write_event(tmp_path, 0, radar, rain)
    found = open_archive(tmp_path)
    np.save(found.radar_file("zh", 7.0, 0, 0), np.zeros((8, 8), np.float32))
    with pytest.raises(BadInput, match="event 000 frame 000"):
        found.read_radar(0, 0)


@pytest.mark.real_data
def test_the_real_event_opens_as_an_archive(real_event: Path) -> None:
    found: Archive = open_archive(real_event)
    assert found.variables == ("zh", "zdr", "kdp")
    assert found.heights_km == (1.0, 3.0, 7.0)
    assert {e: len(f) for e, f in found.frames.items()} == {1: 24}
    assert found.read_radar(1, 0).shape == (3, 3, 256, 256)
