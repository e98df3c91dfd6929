"""Files that people keep are whole: on a full disk the earlier file stays, and nothing else is left."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.explore import figures
from polarcast.data.explore.describe import describe_event
from polarcast.data.files import write_json
from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.quicklook import draw_event
from polarcast.data.ingest.volumes.events import save_gridded
from polarcast.data.ingest.volumes.gridding import GriddedVolume
from polarcast.data.notes import write_archive_note, write_event_note

FIELD = np.ones((2, 1, 1, 32, 32), np.float32)
TOO_LARGE = "File too large"
TIME = np.datetime64("2021-07-04T00:00:00", "s")


@contextmanager
def full_disk(room: int = 100) -> Iterator[None]:
    """Let no file grow beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_quicklook(path: Path, _: Archive) -> None:
    event = IngestedEvent(np.array([TIME]), FIELD[:1], None, FIELD[0, 0], ("zh",), (1.0,))
    draw_event(path, event)


WRITERS: dict[str, Callable[[Path, Archive], object]] = {
    "quicklook.png": write_quicklook,
    "figure.png": lambda path, archive: figures.draw_evolution(path, describe_event(archive, 0), 6),
    "gridded.npz": lambda path, _: save_gridded(GriddedVolume(TIME, FIELD[0], FIELD[0, 0] > 0, ("zh",)), path),
    "report.json": lambda path, _: write_json(path, list(range(100))),
    "archive.json": lambda path, _: write_archive_note(path.parent, {"generator": "x" * 200}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_earlier_file(name: str, archive: Archive, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, archive)
    (tmp_path / name).write_bytes(b"earlier")
    with full_disk(), pytest.raises(OSError, match=TOO_LARGE) as raised:
        WRITERS[name](tmp_path / name, archive)
    assert raised.value.errno == errno.EFBIG
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {name: b"earlier"}


def test_a_full_disk_leaves_no_half_event(tmp_path: Path) -> None:
    write_event(tmp_path, 0, FIELD, None, variables=("zh",), heights_km=(1.0,))
    for room in (100, 2000):
        with full_disk(room), pytest.raises(OSError, match=TOO_LARGE) as raised:
            write_event(tmp_path, 1, FIELD, None, variables=("zh",), heights_km=(1.0,))
        assert raised.value.errno == errno.EFBIG
    assert list(open_archive(tmp_path).frames) == [0]
    write_event(tmp_path, 1, FIELD, None, variables=("zh",), heights_km=(1.0,))
    assert list(open_archive(tmp_path).frames) == [0, 1]


def test_a_full_disk_leaves_the_earlier_note_of_an_event(tmp_path: Path) -> None:
    write_event_note(tmp_path, 0, {"units": {}})
    before = (tmp_path / "events" / "data_dir_000.json").read_bytes()
    with full_disk(), pytest.raises(OSError, match=TOO_LARGE):
        write_event_note(tmp_path, 0, {"units": "x" * 200})
    assert [p.read_bytes() for p in (tmp_path / "events").iterdir()] == [before]
