"""Tests of sequences in several files: files of one time each, overlapping files, resumption."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.ingest import run
from polarcast.data.ingest.grids.joining import SequenceHeader, joined_files
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.run import IngestReport, IngestSettings, ingest
from polarcast.data.workers import run_all
from tests.support.grid_files import SMALL, dualpol, save, speckle, square, times_of, write_npz

pytestmark = pytest.mark.usefixtures("one_process")

DATA = speckle((8, 40, 70))
SETTINGS = IngestSettings(sequences=GridSettings(tile=32, min_echo_pixels=1))


@pytest.fixture(autouse=True, scope="module")
def one_process() -> Iterator[None]:
    """Run the jobs in this process: workers take seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run_all", partial(run_all, isolated=False))
        yield


def _files(folder: Path, parts: list[list[int]]) -> list[Path]:
    """Write the frames of each part to a file."""
    folder.mkdir(exist_ok=True)
    content = square(DATA)
    return [save(content.isel(time=part), folder / f"{n}.nc") for n, part in enumerate(parts)]


def _ingest(out: Path, files: list[Path]) -> IngestReport:
    return ingest(out, files, SETTINGS)


def _frames(out: Path, event: int) -> np.ndarray:
    archive = open_archive(out)
    return np.stack([archive.read_radar(event, frame)[0, 0] for frame in range(len(archive.frames[event]))])


@pytest.mark.parametrize(
    "parts",
    [
        [[k] for k in range(8)],
        [[4, 5, 6, 7], [0, 1, 2, 3]],
        [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]],
        [[0, 2, 4, 6], [1, 3, 5, 7]],
    ],
    ids=["one time a file", "unsorted", "overlapping", "interleaved"],
)
def test_files_of_one_product_are_one_sequence(parts: list[list[int]], tmp_path: Path) -> None:
    files = _files(tmp_path, parts)
    report = _ingest(tmp_path / "out", files[::-1])
    assert (report.events, report.failed) == ([0, 1], {})
    assert report.dropped.total() == sum(map(len, parts)) - 8
    for event, columns in enumerate((slice(3, 35), slice(35, 67))):
        np.testing.assert_array_equal(_frames(tmp_path / "out", event), DATA[:, 4:36, columns])
        assert len(open_archive(tmp_path / "out").event_note(event)["sources"]) == len(parts)
    again = _ingest(tmp_path / "out", files)
    assert (again.events, sorted(again.known)) == ([], sorted(map(str, files)))


def header(name: str, *minutes: int) -> SequenceHeader:
    first, last = (
        np.datetime64("2021-07-04T12:00:00", "s") + np.timedelta64(m, "m") for m in (min(minutes), max(minutes))
    )
    return SequenceHeader(name, "one grid", first, last)


def test_grids_of_one_product_at_two_places_are_not_joined(tmp_path: Path) -> None:
    content = square(DATA)
    far = content.assign_coords(x=content.x + 500).isel(time=slice(4, 8))
    files = [save(content.isel(time=slice(0, 4)), tmp_path / "0.nc"), save(far, tmp_path / "1.nc")]
    headers = [SequenceHeader.of(file, SETTINGS.sequences) for file in files]
    assert joined_files(headers, 15) == [[0], [1]]


def test_files_of_the_same_times_are_of_other_places() -> None:
    """Without places in them, files of two regions look alike: joined, all frames but those of one would be lost."""
    assert joined_files([header(f"{n}.npz", 0, 6, 12) for n in "abc"], 15) == [[0], [1], [2]]
    assert joined_files([header("a.npz", 0, 60), header("b.npz", 12, 24)], 15) == [[0], [1]]


def test_two_products_of_one_time_a_file_are_told_apart_by_their_names() -> None:
    files = [header(f"{product}_{minute}.nc", minute) for minute in (0, 6, 12, 18) for product in ("north", "south")]
    assert joined_files(files, 15) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    without_one = [file for file in files if file.name != "north_6.nc"]
    assert joined_files(without_one, 15) == [[0, 3, 5], [1, 2, 4, 6]]


def test_an_interrupted_ingestion_of_several_files_is_resumed(tmp_path: Path) -> None:
    files = _files(tmp_path, [[k] for k in range(8)])
    _ingest(tmp_path / "whole", files)
    _ingest(tmp_path / "out", files)
    note = tmp_path / "out" / "events" / "data_dir_001.json"
    note.unlink()
    for path in (tmp_path / "out").rglob("data_dir_001*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    report = _ingest(tmp_path / "out", files[::-1])
    assert (report.events, report.known) == ([1], [])
    assert note.read_bytes() == (tmp_path / "whole" / "events" / "data_dir_001.json").read_bytes()


def test_new_files_are_added_without_the_frames_of_known_ones(tmp_path: Path) -> None:
    files = _files(tmp_path, [[k] for k in range(8)])
    _ingest(tmp_path / "out", files[:4])
    for given_files in (files, files[2:]):  # also without some of the known ones
        shutil.copytree(tmp_path / "out", tmp_path / "more")
        report = _ingest(tmp_path / "more", given_files)
        assert report.events == [2, 3]
        assert sorted(report.known) == [str(f) for f in given_files if f in files[:4]]
        np.testing.assert_array_equal(_frames(tmp_path / "more", 2), DATA[4:, 4:36, 3:35])
        shutil.rmtree(tmp_path / "more")


def test_other_grids_and_variables_are_not_joined(tmp_path: Path) -> None:
    first, second = _files(tmp_path, [[0, 1, 2, 3], [4, 5, 6, 7]])
    later = {"time": times_of(8)[4:].astype("M8[ns]")}
    smaller = save(square(DATA[4:, :36]).assign_coords(later), tmp_path / "a.nc")
    named = save(square(DATA[4:]).rename(field="other").assign_coords(later), tmp_path / "b.nc")
    for other in (smaller, named):
        headers = [SequenceHeader.of(path, SMALL) for path in (first, second, other)]
        assert sorted(map(sorted, joined_files(headers, 15))) == [[0, 1], [2]]
        with pytest.raises(BadInput, match=r"another grid or other variables.*like 0\.nc"):
            open_source([first, other], SMALL)


def test_a_file_that_cannot_be_read_does_not_affect_the_others(tmp_path: Path) -> None:
    files = _files(tmp_path, [[k] for k in range(4)])
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04garbage")
    report = _ingest(tmp_path / "out", [*files, tmp_path / "bad.npz"])
    assert report.events == [0, 1]
    assert list(report.failed) == [str(tmp_path / "bad.npz")]


def test_events_of_earlier_versions_are_known(tmp_path: Path) -> None:
    """Files that follow one another were events of their own; they stay so."""
    first = write_npz(tmp_path / "a.npz", DATA[:4], time=times_of(8)[:4])
    second = write_npz(tmp_path / "b.npz", DATA[4:], time=times_of(8)[4:])
    for path in (first, second):
        _ingest(tmp_path / "out", [path])
    report = _ingest(tmp_path / "out", [first, second])
    assert (report.events, sorted(report.known)) == ([], [str(first), str(second)])


def test_events_of_one_archive_have_the_same_variables(tmp_path: Path) -> None:
    """A file of zh, zdr and kdp is not added to events of zh, neither in one call nor in the next."""
    radar = save(dualpol(dict.fromkeys(("zh", "zdr", "kdp"), DATA[:, None]), [1.0]).isel(z=0), tmp_path / "b.nc")
    (plain,) = _files(tmp_path / "plain", [list(range(8))])
    report = _ingest(tmp_path / "out", [plain, radar])
    files = {path.name: reason for path, reason in ((Path(f), r) for f, r in report.failed.items())}
    assert (len(report.events), list(files)) == (2, ["0.nc"])
    assert "not the first file's variables and heights" in files["0.nc"]
    again = _ingest(tmp_path / "out", [plain])
    assert "not the variables of the archive's events" in again.failed[str(plain)]
    assert _ingest(tmp_path / "out", [radar]).known == [str(radar)]


def is_within(one: SequenceHeader, other: SequenceHeader) -> bool:
    return bool(other.first <= one.first and one.last <= other.last)


@given(
    starts=st.lists(st.integers(0, 4000), min_size=1, max_size=25),
    lengths=st.lists(st.integers(0, 60), min_size=25, max_size=25),
    products=st.lists(st.sampled_from("ab"), min_size=25, max_size=25),
    gap=st.integers(1, 60),
)
def test_joined_files_have_no_gap_and_all_others_do(
    starts: list[int], lengths: list[int], products: list[str], gap: int
) -> None:
    zero = np.datetime64("2021-07-04T00:00", "s")
    minute = np.timedelta64(60, "s")
    headers = [
        SequenceHeader(f"{i}", product, zero + a * minute, zero + (a + length) * minute)
        for i, (a, length, product) in enumerate(zip(starts, lengths, products, strict=False))
    ]
    groups = joined_files(headers, gap)
    assert sorted(i for group in groups for i in group) == list(range(len(headers)))
    for group in groups:
        assert len({headers[i].signature for i in group}) == 1
        assert [headers[i].first for i in group] == sorted(headers[i].first for i in group)
    # Two files are in one sequence if a chain of files without a longer gap leads from one to the other.
    chained = {i: {i} for i in range(len(headers))}
    for i, one in enumerate(headers):
        for j, other in enumerate(headers):
            is_near = other.first - one.last <= gap * minute and one.first - other.last <= gap * minute
            if one.signature == other.signature and is_near:
                union = chained[i] | chained[j]
                for k in union:
                    chained[k] = union
    for group in groups:
        whole = chained[group[0]]
        span = max(headers[i].last for i in whole) - min(headers[i].first for i in whole)
        assert set(group) <= whole
        assert not any(is_within(headers[i], headers[j]) for i in group for j in group if i != j)
        is_one = not any(is_within(headers[i], headers[j]) for i in whole for j in whole if i != j)
        if span <= np.timedelta64(24, "h") and is_one:
            assert set(group) == whole
        else:
            assert len({headers[i].first.astype("datetime64[D]") for i in group}) == 1
