"""Files that people keep are whole: on a full disk the earlier file stays, and nothing else is left."""

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.errors import BadInput
from polarcast.data.explore import figures
from polarcast.data.explore.describe import describe_event
from polarcast.data.files import new_folder, write_json
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


def test_a_new_folder_is_whole(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/er"):
        with new_folder(tmp_path / name) as partial:
            (partial / "a").write_text("1")
            assert not (tmp_path / name / "a").exists()
        assert [path.name for path in (tmp_path / name).iterdir()] == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"new", "empty", "deep"}


def fill(folder: Path, size: int = 1, meanwhile: Callable[[], object] = lambda: None) -> None:
    with new_folder(folder) as partial:
        (partial / "a").write_bytes(bytes(size))
        meanwhile()


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    theirs = tmp_path / "new" / "theirs"
    with pytest.raises(BadInput, match="exists and is not empty"):
        fill(tmp_path / "new", meanwhile=lambda: (theirs.parent.mkdir(), theirs.write_text("2")))
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "theirs"]


def test_a_full_disk_leaves_no_folder(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(OSError, match=TOO_LARGE):
        fill(tmp_path / "new", 200)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_folder_of_this_name(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with new_folder(tmp_path / "new") as partial:
            (partial / "a").write_text("1")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".new.")
    with new_folder(tmp_path / "new") as partial:
        (partial / "a").write_text("2")
    assert (tmp_path / "new" / "a").read_text() == "2"
