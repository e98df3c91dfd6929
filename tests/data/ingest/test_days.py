"""Records without gaps are divided into days: one event of weeks could not be split."""

from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.ingest.days import days_of
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.ingest.volumes.events import Scan, group_scans
from polarcast.data.ingest.volumes.volume import RadarSite
from polarcast.data.notes import event_notes, write_event_note
from polarcast.data.shards.write import write_shards
from tests.support.grid_files import speckle, write_npz

pytestmark = pytest.mark.usefixtures("one_process")

HOURLY = IngestSettings(
    sequences=GridSettings(tile=32, step_minutes=60, max_gap_minutes=90, min_echo_pixels=1, min_coverage=0.3)
)
SITE = RadarSite(32.0, 118.0, 0.0)
EVENING = np.datetime64("2021-07-04T20:00:00", "s")


def hours(count: int) -> np.ndarray:
    return EVENING + np.arange(count) * np.timedelta64(1, "h")


def test_more_than_a_day_is_divided_at_midnight() -> None:
    assert days_of(hours(1)) == [(0, 1)]
    assert days_of(hours(25)) == [(0, 25)]
    assert days_of(hours(26)) == [(0, 4), (4, 26)]
    assert days_of(hours(53)) == [(0, 4), (4, 28), (28, 52), (52, 53)]


def test_scans_of_days_are_events_of_one_day(tmp_path: Path) -> None:
    scans = [Scan(time, SITE, tmp_path, ({"sha256": str(time)},)) for time in hours(53)]
    groups, _ = group_scans([*scans, Scan(hours(60)[-1], SITE, tmp_path, ({"sha256": "x"},))], 90)
    assert [len(group) for group in groups] == [4, 24, 24, 1, 1]
    assert [scan for group in groups[:-1] for scan in group] == scans


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A file of eight days without a gap, one tile."""
    return write_npz(tmp_path / "record.npz", speckle((8 * 24, 32, 32)), time=hours(8 * 24))


def test_a_record_without_gaps_is_split_into_train_validation_and_test(record: Path, tmp_path: Path) -> None:
    assert len(ingest(tmp_path / "archive", [record], HOURLY).events) == 9
    notes = event_notes(tmp_path / "archive")
    assert [note["times"][0][:13] for note in notes.values()][:3] == ["2021-07-04T20", "2021-07-05T00", "2021-07-06T00"]
    again = ingest(tmp_path / "archive", [record], HOURLY)
    assert (again.events, again.known) == ([], [str(record)])
    manifest = write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards")
    assert all(manifest.splits.values())


def test_days_of_an_event_of_an_earlier_version_are_not_written_again(record: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "archive", [record], HOURLY)
    note = event_notes(tmp_path / "archive")[0]
    content, _, *tile = note["identity"].split("/")
    for number in range(1, 9):
        (tmp_path / "archive" / "events" / f"data_dir_{number:03d}.json").unlink()
    assert len(ingest(tmp_path / "archive", [record], HOURLY).events) == 8
    for number in range(1, 9):
        (tmp_path / "archive" / "events" / f"data_dir_{number:03d}.json").unlink()
    write_event_note(tmp_path / "archive", 0, {**note, "identity": "/".join([content, f"0-{8 * 24}", *tile])})
    assert ingest(tmp_path / "archive", [record], HOURLY).events == []
