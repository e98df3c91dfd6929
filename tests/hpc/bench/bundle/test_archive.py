"""The file of a bundle: a zip that other programs read; whatever polarcast would not have written is refused."""

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.bundle import archive
from polarcast.hpc.bench.bundle.archive import read_members, write_members

NAMES = st.text(st.sampled_from("abzAé_0"), min_size=1, max_size=5)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MEMBERS = {"bundle.json": b"{}", "tables/main.json": b"[1, 2]", "cells/öne/log.jsonl": b""}
LARGEST = 2**26


def read(file: Path) -> dict[str, bytes]:
    return read_members(file, lambda name: LARGEST)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_members(tmp_path / "b.zip", MEMBERS)
    return tmp_path / "b.zip"


@given(st.dictionaries(PATHS, st.binary(max_size=50), min_size=1, max_size=6))
def test_members_are_read_as_written_also_by_zipfile(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes]
) -> None:
    names = {name.casefold() for name in members}
    file = tmp_path_factory.mktemp("zip") / "b.zip"
    write_members(file, members)
    if len(names) == len(members):
        assert list(read(file).items()) == list(members.items())
    with zipfile.ZipFile(file) as other:
        assert other.testzip() is None
        assert {one.filename: other.read(one) for one in other.infolist()} == members
        assert {stat.S_IMODE(one.external_attr >> 16) for one in other.infolist()} == {0o644}


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_bit_can_be_changed_unseen(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    write_members(folder / "b.zip", MEMBERS)
    content = bytearray((folder / "b.zip").read_bytes())
    content[position % len(content)] ^= 1 << bit
    (folder / "b.zip").write_bytes(content)
    with pytest.raises(BadInput):
        read(folder / "b.zip")


def test_every_cut_is_seen(file: Path) -> None:
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(BadInput):
            read(file)


@pytest.mark.parametrize("extra", [b"x", b"PK\x05\x06" + bytes(18), bytes(1000)])
def test_nothing_stands_before_or_after_the_members(file: Path, extra: bytes) -> None:
    content = file.read_bytes()
    for changed in (content + extra, extra + content):
        file.write_bytes(changed)
        with pytest.raises(BadInput):
            read(file)


def zipped(entries: list[tuple[zipfile.ZipInfo, bytes]], comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for entry, content in entries:
            entry.date_time = (1980, 1, 1, 0, 0, 0)
            made.writestr(entry, content)
        made.comment = comment
    return stream.getvalue()


def entry(name: str, mode: int = 0o100644, compressed: bool = False) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr, made.create_system = mode << 16, 3
    made.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    return made


def test_zipfile_writes_the_same_bytes(tmp_path: Path) -> None:
    """So that each case below is refused for its one difference."""
    write_members(tmp_path / "b.zip", {"a": b"1", "b/c": b"22"})
    assert zipped([(entry("a"), b"1"), (entry("b/c"), b"22")]) == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([(entry("../a"), b"1")], "must not start with a dot"),
        ([(entry("a/../../b"), b"1")], "must not start with a dot"),
        ([(entry("/etc/passwd"), b"1")], "is empty"),
        ([(entry("a\\b"), b"1")], r"must not hold / or"),
        ([(entry("C:\\a"), b"1")], r"must not hold / or"),
        ([(entry("a/"), b"")], "is empty"),
        ([(entry("a\nb"), b"")], "not printed"),
        ([(entry("x" * 201), b"")], "longer than 200"),
        ([(entry("a"), b"1"), (entry("A"), b"2")], "differs in the case"),
        ([(entry("é"), b"1"), (entry("e\u0301"), b"2")], "there twice"),
        ([(entry("a", stat.S_IFLNK | 0o777), b"/etc/passwd")], "was changed"),
        ([(entry("a", stat.S_IFIFO | 0o644), b"")], "was changed"),
        ([(entry("a", 0o104755), b"")], "was changed"),
        ([(entry("a", compressed=True), bytes(2**22))], "is compressed"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_members_are_refused(tmp_path: Path, entries: list[tuple[zipfile.ZipInfo, bytes]], reason: str) -> None:
    (tmp_path / "b.zip").write_bytes(zipped(entries))
    with pytest.raises(BadInput, match=reason) as error:
        read(tmp_path / "b.zip")
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_names_and_comments_are_refused(tmp_path: Path) -> None:
    for content, reason in [
        (zipped([(entry("a"), b"1"), (entry("a"), b"2")]), "there twice"),
        (zipped([(entry("a"), b"1")], comment=b"hello"), "was changed"),
    ]:
        (tmp_path / "b.zip").write_bytes(content)
        with pytest.raises(BadInput, match=reason):
            read(tmp_path / "b.zip")


def test_members_that_claim_more_than_there_is_are_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    struct.pack_into("<II", content, 18, 2**32 - 1, 2**32 - 1)
    file.write_bytes(content)
    with pytest.raises(BadInput, match="claim more bytes"):
        read(file)


def test_sizes_and_numbers_are_limited(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"'tables/main.json' has 6 bytes; the most are 5"):
        read_members(file, lambda name: 5)
    with pytest.raises(BadInput, match=r"'tables/main.json' is no file of a bundle"):
        read_members(file, lambda name: 0 if name.startswith("tables") else 9)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 2)
    with pytest.raises(BadInput, match="more than 2 members"):
        read(file)
    with pytest.raises(BadInput, match="would have 3 members"):
        write_members(file, MEMBERS)
    monkeypatch.setattr(archive, "MOST_BYTES", 50)
    with pytest.raises(BadInput, match="can't be read"):
        read(file)
    with pytest.raises(BadInput, match="would be larger than 50 bytes"):
        write_members(file, {"a": bytes(51)})


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    for name in ("pipe", "text", "empty", "missing", "."):
        with pytest.raises(BadInput, match=r"can't be read|is not a bundle"):
            read(tmp_path / name)


def test_a_failed_write_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_members(file, {"other": b"1"})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
