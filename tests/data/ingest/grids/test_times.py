"""Tests of the times of gridded sequences: references, text, frames without a time, forecasts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.source import open_source
from tests.support.grid_files import SMALL, events_of, save, speckle, square, times_of, write_npz

DATA = speckle((4, 36, 40))
NOON = np.datetime64("2020-06-01T12:00:00", "s")
EXPECTED = NOON + np.arange(4) * np.timedelta64(360, "s")


def _timed(values: Any, **attributes: str) -> Any:
    return square(DATA).assign_coords(time=("time", values, attributes))


MINUTES = np.arange(4) * 6.0
ZONES = ["2020-06-01 12:00:00", "2020-06-01T12:00:00Z", "2020-06-01 12:00 UTC", "2020-06-01 14:00:00 +02:00",
         "2020-06-01 21:00:00 +0900"]  # fmt: skip


@pytest.mark.parametrize("reference", ZONES)
def test_references_with_offsets_are_in_utc(reference: str, tmp_path: Path) -> None:
    path = save(_timed(MINUTES, units=f"minutes since {reference}"), tmp_path / "a.nc")
    np.testing.assert_array_equal(open_source(path, SMALL).times, EXPECTED)


TEXTS = {
    "digits": [str(t).translate({45: "", 84: "", 58: ""})[:12] for t in EXPECTED.astype(str)],
    "digits with seconds": [str(t).translate({45: "", 84: "", 58: ""}) for t in EXPECTED.astype(str)],
    "ISO": [str(t) for t in EXPECTED.astype(str)],
    "ISO with an offset": ["2020-06-01T14:00:00+02:00", "2020-06-01T14:06:00+02:00", "2020-06-01T14:12:00+02:00",
                           "2020-06-01T14:18:00+02:00"],
    "with the name of UTC": [f"{t}.000 Etc/UTC" for t in EXPECTED.astype(str)],
    "basic with an offset": [str(t).translate({45: "", 58: ""}) + "+0000" for t in EXPECTED.astype(str)],
    "as WRF writes it": [str(t).replace("T", "_") for t in EXPECTED.astype(str)],
}  # fmt: skip


@pytest.mark.parametrize("way", TEXTS)
def test_times_as_text_are_read(way: str, tmp_path: Path) -> None:
    path = save(_timed(np.array(TEXTS[way], object)), tmp_path / "a.nc")
    np.testing.assert_array_equal(open_source(path, SMALL).times, EXPECTED)
    npz = write_npz(tmp_path / "a.npz", DATA, time=np.array(TEXTS[way]))
    np.testing.assert_array_equal(open_source(npz, SMALL).times, EXPECTED)


def test_numbers_that_are_dates_are_read(tmp_path: Path) -> None:
    path = save(_timed(np.array([int(t) for t in TEXTS["digits"]])), tmp_path / "a.nc")
    np.testing.assert_array_equal(open_source(path, SMALL).times, EXPECTED)


def test_fractions_are_rounded_to_the_second(tmp_path: Path) -> None:
    path = save(_timed(12 + np.arange(4) * 5 / 60, units="hours since 2020-06-01"), tmp_path / "a.nc")
    assert open_source(path, SMALL).times.tolist() == (NOON + np.arange(4) * np.timedelta64(300, "s")).tolist()


@pytest.mark.parametrize(
    ("values", "attributes", "message"),
    [
        (MINUTES, {"units": "minutes since 2020-06-01 21:00:00 JST"}, "time zone 'JST' is ambiguous.*UTC"),
        (MINUTES, {"units": "minutes since 2020-06-01", "calendar": "noleap"}, "calendar 'noleap'.*standard"),
        (np.arange(4), {}, "time has no units.*'minutes since 2020-06-01T12:00:00Z'"),
        (MINUTES, {"units": "moons since 2020-06-01"}, "time in units 'moons since 2020-06-01'"),
        (np.array(["noon"] * 4, object), {}, "the time 'noon' can't be read"),
        (MINUTES, {"units": "minutes since 1850-01-01"}, "without a time between 1900 and 2100"),
    ],
)
def test_times_that_are_not_known_are_named(
    values: np.ndarray, attributes: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        open_source(save(_timed(values, **attributes), tmp_path / "a.nc"), SMALL)


def test_frames_without_a_time_are_left_out_and_counted(tmp_path: Path) -> None:
    content = _timed(np.array([0, 6, np.nan, 18.0]), units="minutes since 2020-06-01T12:00:00Z")
    source = open_source(save(content, tmp_path / "a.nc"), SMALL)
    np.testing.assert_array_equal(source.times, EXPECTED[[0, 1, 3]])
    np.testing.assert_array_equal(source.read([2], slice(0, 36), slice(0, 40)), DATA[[3]])
    assert source.note["frames_without_time"] == 1
    assert dict(source.dropped) == {"frames without a time": 1}


def test_a_frame_of_1970_is_no_part_of_an_event(tmp_path: Path) -> None:
    times = EXPECTED.copy()
    times[1] = np.datetime64(0, "s")
    events = events_of(write_npz(tmp_path / "a.npz", DATA, time=times))
    assert [event.times[0] for event in events] == [NOON]
    assert len(events[0].times) == 4  # the second frame is interpolated


@pytest.mark.parametrize("name", ["lead_time", "step"])
def test_forecasts_are_refused(name: str, tmp_path: Path) -> None:
    content = square(DATA).rename(time=name)
    content = content.assign_coords({name: (name, MINUTES, {"units": "minutes"}), "time": NOON.astype("M8[ns]")})
    with pytest.raises(BadInput, match=f"forecasts by lead time .axis '{name}'"):
        open_source(save(content, tmp_path / "a.nc"), SMALL)


def test_a_time_of_the_whole_file_is_one_frame(tmp_path: Path) -> None:
    scalar = save(square(DATA).isel(time=1), tmp_path / "scalar.nc")
    single = save(square(DATA).isel(time=[1]), tmp_path / "single.nc")
    for path in (scalar, single):
        source = open_source(path, SMALL)
        assert source.times.tolist() == times_of(4)[[1]].tolist()
        np.testing.assert_array_equal(source.read([0], slice(0, 36), slice(0, 40)), DATA[[1]])


def test_seconds_since_1970_in_float32_are_refused(tmp_path: Path) -> None:
    seconds = (1591012800 + np.arange(4) * 360).astype(np.float32)
    with pytest.raises(BadInput, match=r"times in float32 to 128 s only.*float64"):
        open_source(save(_timed(seconds, units="seconds since 1970-01-01"), tmp_path / "a.nc"), SMALL)
