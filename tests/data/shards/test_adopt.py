"""Indexing of third-party tars: valid ones are used unchanged, others are rejected with a one-line error."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds

from polarcast.data.archive import Archive
from polarcast.data.check.shards import check_shards
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import open_reader
from polarcast.data.shards.adopt import ShardLayout, adopt
from polarcast.data.shards.manifest import read_manifest
from polarcast.data.shards.tar_walk import walk

GRID = ShardLayout(("zh", "zdr"), (1.0, 3.0))


def frame(event: int, number: int) -> dict[str, object]:
    rng = np.random.default_rng([event, number])
    radar = rng.random((2, 2, 6, 6)).astype(np.float16) + 1
    return {"__key__": f"{event:03d}-{number:03d}", "radar.npy": radar, "rain.npy": radar[0, 0], "json": {"by": "them"}}


def write_stock(folder: Path, per_shard: int = 5) -> None:
    """Write three events of four frames with stock WebDataset, `per_shard` samples per tar across events."""
    folder.mkdir()
    with wds.ShardWriter(str(folder / "theirs-%03d.tar"), maxcount=per_shard, verbose=0) as out:
        for event in range(3):
            for number in range(4):
                out.write(frame(event, number))


def test_stock_shards_are_indexed_and_read_unchanged(tmp_path: Path) -> None:
    write_stock(tmp_path / "t")
    before = {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()}
    manifest = adopt(tmp_path / "t", GRID, split="all-test")
    assert {name: (tmp_path / "t" / name).read_bytes() for name in before} == before
    reader = open_reader(read_manifest(tmp_path / "t"), "test", variables=("zdr", "zh"), heights_km=(3.0,), frames=3)
    batch = reader.read(range(len(reader)))
    assert len(batch) == 3 * 2
    for window, event, first in zip(batch.radar, batch.event.tolist(), batch.frame.tolist(), strict=True):
        expected = np.stack([frame(event, first + t)["radar.npy"] for t in range(3)])[:, ::-1, 1:]
        assert torch.equal(window, torch.from_numpy(expected.copy()))
    assert manifest.has_rain
    assert not [f for f in check_shards(manifest) if not f.ok and f.where.startswith("theirs")]


def test_event_and_frame_can_be_given_in_the_json(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with wds.TarWriter(str(tmp_path / "t" / "a.tar")) as out:
        for number in range(2):
            out.write({**frame(7, number), "__key__": f"x/{number}", "json": {"event": 7, "frame": number}})
    manifest = adopt(tmp_path / "t", GRID, split="all-test")
    assert manifest.samples[:, 1:3].tolist() == [[7, 0], [7, 1]]


def test_a_table_gives_the_groups_of_stock_shards(tmp_path: Path) -> None:
    write_stock(tmp_path / "t")
    (tmp_path / "storms.csv").write_text("event,group\n0,a\n1,b\n2,a\n")
    with pytest.raises(BadInput, match="3 events of 2 groups"):
        adopt(tmp_path / "t", GRID, split="0.4/0.3/0.3", group_by=tmp_path / "storms.csv")
    manifest = adopt(tmp_path / "t", GRID, group_by=tmp_path / "storms.csv")
    assert manifest.splits["test"] == (0, 1, 2)
    assert read_manifest(tmp_path / "t").groups == {0: "a", 1: "b", 2: "a"}


def test_indexing_our_own_shards_gives_the_same_table(shards, tmp_path: Path, archive: Archive) -> None:  # type: ignore[no-untyped-def]
    for shard in shards.shards:
        (tmp_path / shard.name).symlink_to(shards.folder / shard.name)
    again = adopt(tmp_path, ShardLayout(archive.variables, archive.heights_km), split="0.5/0.25/0.25")
    np.testing.assert_array_equal(again.samples, shards.samples)
    assert again.statistics == shards.statistics
    assert again.splits == shards.splits


def npy(array: np.ndarray, **options: bool) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


GOOD = npy(np.ones((2, 2, 6, 6), np.float16))


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w") as out:
        for info, content in members:
            info.size = info.size or len(content)
            out.addfile(info, io.BytesIO(content) if content else None)


def regular(name: str, content: bytes = GOOD) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def claiming(size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        info = tarfile.TarInfo("000-000.radar.npy")
        info.size = size
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + GOOD.ljust(10240, b"\0"))

    return write


def oversized_npy(path: Path) -> None:
    """Write an npy header that claims a terabyte."""
    tar_of(path, regular("000-000.radar.npy", GOOD.replace(b"(2, 2, 6, 6)", b"(2,2,9**9,6)".ljust(12))))


def of(*members: tuple[tarfile.TarInfo, bytes]) -> Callable[[Path], None]:
    return lambda path: tar_of(path, *members)


def pax_size(path: Path) -> None:
    info = tarfile.TarInfo("000-000.radar.npy")
    info.pax_headers = {"GNU.sparse.size": "1099511627776"}
    tar_of(path, (info, GOOD))


def truncated(path: Path) -> None:
    tar_of(path, regular("000-000.radar.npy"), regular("000-001.radar.npy"))
    path.write_bytes(path.read_bytes()[:1200])


INVALID: dict[str, tuple[Callable[[Path], None], str]] = {
    "an absolute path": (of(regular("/etc/000-000.radar.npy")), "unsafe member name '/etc"),
    "a path to the parent": (of(regular("a/../../000-000.radar.npy")), "unsafe member name 'a/../../"),
    "a symbolic link": (of(special("000-000.radar.npy", tarfile.SYMTYPE, "/etc/passwd")), "link or a device"),
    "a hard link": (of(special("000-000.radar.npy", tarfile.LNKTYPE, "/etc/passwd")), "link or a device"),
    "a device": (of(special("000-000.radar.npy", tarfile.CHRTYPE)), "link or a device"),
    "a huge member size": (claiming(2**42), "claims 4398046511104 bytes"),
    "a negative member size": (claiming(-4096), "claims -4096 bytes|no tar header"),
    "a huge array": (oversized_npy, "not a valid array"),
    "a sparse map": (pax_size, "changes a member's size"),
    "a pickle": (of(regular("000-000.radar.npy", npy(np.array([{}, None]), allow_pickle=True))), "a pickled object"),
    "not an array": (of(regular("000-000.radar.npy", b"not numpy")), "not an npy file"),
    "Fortran order": (of(regular("000-000.radar.npy", npy(np.ones((2, 2, 6, 6), np.float16, order="F")))), "Fortran"),
    "single precision": (of(regular("000-000.radar.npy", npy(np.ones((2, 2, 6, 6), np.float32)))), "<f4"),
    "another shape": (of(regular("000-000.radar.npy", npy(np.ones((3, 2, 6, 6), np.float16)))), r"\(3, 2, 6, 6\)"),
    "a missing member": (of(regular("000-000.rain.npy", npy(np.ones((6, 6), np.float16)))), "has no radar.npy"),
    "no event": (of(regular("sample.radar.npy")), "no event and frame"),
    "a duplicate frame": (of(regular("a/000-000.radar.npy"), regular("b/000-000.radar.npy")), "duplicate frame"),
    "not a number": (of(regular("000-000.radar.npy", npy(np.full((2, 2, 6, 6), np.nan, np.float16)))), "not finite"),
    "a truncated file": (truncated, "claims|truncated"),
    "an empty file": (lambda path: path.write_bytes(b""), "truncated"),
    "compression": (lambda path: tarfile.open(path, "w:gz").close(), "no tar header|truncated"),
    "random bytes": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(20480)), "no tar header"),
    "bad JSON": (of(regular("000-000.radar.npy"), regular("000-000.json", b"{")), "not a JSON object"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_tars_are_rejected_and_nothing_is_written(tmp_path: Path, kind: str) -> None:
    write, message = INVALID[kind]
    write(tmp_path / "a.tar")
    with pytest.raises(BadInput, match=message) as error:
        adopt(tmp_path, GRID)
    assert "a.tar" in str(error.value) or kind == "a duplicate frame"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


def test_check_finds_frames_that_are_not_at_the_offsets_of_the_manifest(tmp_path: Path) -> None:
    """The SHA-256 of such a shard is correct, because the manifest was made from it."""
    write_stock(tmp_path / "t", per_shard=100)
    manifest = adopt(tmp_path / "t", GRID, split="all-test")
    manifest.samples[5, 3] += 2
    for fast in (True, False):
        wrong = [f for f in check_shards(manifest, fast=fast) if not f.ok]
        assert [f.where for f in wrong] == ["theirs-000.tar"]
        assert "frame 1 of event 001" in wrong[0].found


def test_fast_check_reads_no_frames_and_misses_a_flipped_bit(tmp_path: Path) -> None:
    write_stock(tmp_path / "t", per_shard=100)
    manifest = adopt(tmp_path / "t", GRID, split="all-test")
    path = manifest.folder / manifest.shards[0].name
    content = bytearray(path.read_bytes())
    content[manifest.samples[3, 3] + 7] ^= 1
    path.write_bytes(content)
    assert all(f.ok for f in check_shards(manifest, fast=True))
    assert not all(f.ok for f in check_shards(manifest))


def test_check_finds_statistics_that_differ_from_the_training_events(tmp_path: Path) -> None:
    write_stock(tmp_path / "t")
    manifest = adopt(tmp_path / "t", GRID, split="0.34/0.33/0.33")
    assert not [f for f in check_shards(manifest) if f.where == "manifest.json"]
    text = (tmp_path / "t" / "manifest.json").read_text()
    stored = json.loads(text)
    stored["statistics"]["zh_1.0km"]["mean"] += 1e-9
    (tmp_path / "t" / "manifest.json").write_text(json.dumps(stored))
    found = [f for f in check_shards(read_manifest(tmp_path / "t")) if not f.ok and f.where == "manifest.json"]
    assert len(found) == 1
    assert "zh_1.0km" in found[0].found


def test_long_member_names_are_read(tmp_path: Path) -> None:
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=kind) as out:
            name = f"{'folder/' * 30}000-000.radar.npy"
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(GOOD), 1.5
            out.addfile(info, io.BytesIO(GOOD))
        [member] = walk(tmp_path / "a.tar")
        assert member.name == name
        assert (tmp_path / "a.tar").read_bytes()[member.offset :][: member.size] == GOOD
