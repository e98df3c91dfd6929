"""Pipes, endless files, and small files that unpack to gigabytes are refused at once, in one line."""

import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from polarcast.data.errors import BadInput
from polarcast.data.field_file import read_field
from polarcast.data.files import open_regular, read_json, read_limited
from polarcast.data.ingest.claims import check_claims
from polarcast.data.notes import read_archive_note
from polarcast.data.shards.health import file_sha256
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.figures.source import Kept
from polarcast.hpc.bench.worker import read_progress
from polarcast.hpc.config.stored import read_stored
from polarcast.hpc.leaderboard import forecasts
from polarcast.hpc.leaderboard.entry import Entry
from polarcast.hpc.runs.checkpoint import problem_of
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import FORMAT, read_records
from polarcast.sweeps.record import read_trial
from tests.support.marked_shards import marked_shards

LIMIT_S = 10


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def end(_: int, __: FrameType | None) -> None:
        raise AssertionError("waits for ever")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
}


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(BadInput) as refused:
        read()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("kind", SPECIAL)
def test_no_special_file_is_opened(kind: str, tmp_path: Path) -> None:
    SPECIAL[kind](tmp_path / "file")
    for read in (open_regular, read_limited, file_sha256):
        with pytest.raises(OSError, match="not a regular file"):
            read(tmp_path / "file")


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123")
    assert read_limited(path, 3) == b"123"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read_limited(path, 2)
    os.truncate(path, 2**40)
    assert read_json(path) == {}


@pytest.mark.parametrize("kind", SPECIAL)
def test_no_special_file_of_a_run_is_waited_for(kind: str, tmp_path: Path) -> None:
    names = ("provenance.json", "card.json", "verified.json", "config.yaml", "log.jsonl", "progress.json", "trial.json",
             "scores.parquet", "sha256.json")  # fmt: skip
    for name in names:
        SPECIAL[kind](tmp_path / name)
    entry = Entry(tmp_path)
    assert "provenance.json is damaged (not a regular file)" in refusal(lambda: entry.provenance)
    assert "verified.json is damaged (not a regular file)" in refusal(lambda: entry.standing)
    assert "not a regular file" in refusal(lambda: read_stored(tmp_path / "config.yaml"))
    assert entry.card == read_provenance(tmp_path / "provenance.json") == {}
    assert entry.problem
    assert list(RunFolder(tmp_path).records()) == []
    assert read_progress(tmp_path) == ("", 0, 1)
    assert read_trial(tmp_path) is None
    assert problem_of(tmp_path)
    assert "no score records" in refusal(lambda: read_records(tmp_path / "scores.parquet"))


@pytest.mark.parametrize("kind", SPECIAL)
def test_no_special_file_of_an_archive_is_waited_for(kind: str, tmp_path: Path) -> None:
    SPECIAL[kind](tmp_path / "frame_000.npy")
    SPECIAL[kind](tmp_path / "archive.json")
    assert "not a regular file" in refusal(lambda: read_field(tmp_path / "frame_000.npy"))
    assert "not a regular file" in refusal(lambda: read_archive_note(tmp_path))


def zarr_of(path: Path, **options: Any) -> Path:
    """Write one array of 100 values in a chunk; return the chunk's file."""
    array = zarr.open_group(path, mode="w").create_array("rain", shape=(100,), chunks=(100,), dtype="f8", **options)
    array[:] = np.arange(100)
    return next(p for p in (path / "rain").rglob("*") if p.is_file() and p.name == "0")


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_no_chunk_of_a_zarr_folder_is_a_special_file(kind: str, tmp_path: Path) -> None:
    chunk = zarr_of(tmp_path / "a.zarr")
    check_claims(tmp_path / "a.zarr")
    chunk.unlink()
    SPECIAL[kind](chunk)
    assert "is not a regular file" in refusal(lambda: check_claims(tmp_path / "a.zarr"))


def test_no_chunk_of_a_zarr_folder_links_to_another_file(tmp_path: Path) -> None:
    chunk = zarr_of(tmp_path / "a.zarr")
    chunk.rename(tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    assert "is not a regular file" in refusal(lambda: check_claims(tmp_path / "a.zarr"))


@pytest.mark.parametrize(
    "options",
    [{"compressors": None}, {"shards": (200,)}, {"compressors": GzipCodec()}, {"filters": ()}],
)
def test_other_zarr_folders_are_not_refused(options: dict[str, Any], tmp_path: Path) -> None:
    zarr_of(tmp_path / "a.zarr", **options)
    check_claims(tmp_path / "a.zarr")
    old = zarr.create_array(tmp_path / "old.zarr", shape=(100,), chunks=(10,), dtype="f4", zarr_format=2)
    old[:] = np.arange(100)
    check_claims(tmp_path / "old.zarr")
    zarr.create_array(tmp_path / "text.zarr", shape=(2,), dtype="str")[:] = np.array(["a", "b"])
    check_claims(tmp_path / "text.zarr")


@pytest.mark.parametrize("codec", [ZstdCodec(), BloscCodec(cname="zstd")])
@pytest.mark.parametrize("size", [100 * 2**20, 300 * 2**20])
def test_a_chunk_does_not_unpack_to_more_than_its_array_claims(codec: Any, size: int, tmp_path: Path) -> None:
    chunk = zarr_of(tmp_path / "a.zarr", compressors=codec)
    check_claims(tmp_path / "a.zarr")
    encoder = numcodecs.Zstd() if isinstance(codec, ZstdCodec) else numcodecs.Blosc("zstd")
    chunk.write_bytes(encoder.encode(np.zeros(size, np.uint8)))
    assert chunk.stat().st_size < size / 100
    assert f"chunk {chunk.name} unpacks to {size / 1e9:.3g} GB" in refusal(lambda: check_claims(tmp_path / "a.zarr"))


def hostile_parquet(path: Path, values: int, rows: int) -> None:
    """Write score records whose lists of zeros take few bytes."""
    protocol = Protocol("mm/h", (64, 64))
    event = pa.array(np.zeros(rows, np.int64))
    sums = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(values * rows)), values)
    table = pa.table({"event": event, "lead_time": event, "height": event, "contingency": sums})
    metadata = {"polarcast": FORMAT, "protocol": json.dumps(protocol.as_record())}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def test_few_bytes_of_score_records_do_not_become_gigabytes(tmp_path: Path) -> None:
    hostile_parquet(tmp_path / "scores.parquet", values=10**6, rows=16)
    assert (tmp_path / "scores.parquet").stat().st_size < 30_000
    before = pa.total_allocated_bytes()
    line = refusal(lambda: read_records(tmp_path / "scores.parquet"))
    assert "is damaged" in line
    assert "16 rows of 0.128 GB" in line
    assert pa.total_allocated_bytes() - before < 2**20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_shards(tmp_path_factory.mktemp("made"), (3,)).folder


def altered(made: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(made, folder)
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, **changes}))
    return folder


def nested(depth: int) -> dict[str, Any]:
    content: Any = 1
    for _ in range(depth):
        content = [content]
    return {"derived": {"x": content}}


MOMENTS = {"count": 10**9, "mean": 10.0, "std": 3.0, "min": 0.5, "max": 60.0}
BAD: dict[str, dict[str, Any]] = {
    "markup": {"variables": ["[red]"], "units": {"[red]": "dBZ"}},
    "another variable": {"variables": ["rhohv"], "units": {"rhohv": ""}},
    "negative std": {"statistics": {"zh_3.0km": {**MOMENTS, "std": -1}}},
    "huge std": {"statistics": {"zh_3.0km": {**MOMENTS, "std": 1e308}}},
    "no moments": {"statistics": {"zh_3.0km": {}}},
    "text": {"statistics": {"zh_3.0km": {**MOMENTS, "std": "3"}}},
    "depth": {"provenance": nested(60)},
}


@pytest.mark.parametrize("name", BAD)
def test_a_manifest_with_implausible_content_is_not_read(name: str, made: Path, tmp_path: Path) -> None:
    folder = altered(made, tmp_path / "shards", **BAD[name])
    assert f"damaged manifest ({next(iter(BAD[name]))}" in refusal(lambda: read_manifest(folder))


def test_constant_fields_and_nested_origins_are_not_refused(made: Path, tmp_path: Path) -> None:
    dry = {"count": 0, "mean": None, "std": None, "min": None, "max": None}
    for index, statistics in enumerate(({"events": 1, "zh_3.0km": {**MOMENTS, "std": 0.0}}, {"zh_3.0km": dry}, {})):
        folder = altered(made, tmp_path / str(index), statistics=statistics, provenance=nested(30))
        assert read_manifest(folder).statistics == statistics


def claiming_npz(path: Path, *names: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},), }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", content)


def test_forecasts_do_not_claim_more_than_their_file(tmp_path: Path) -> None:
    claiming_npz(tmp_path / "f.npz", "event", "frame", "forecast")
    assert "claims the shape" in refusal(lambda: forecasts.read_forecasts(tmp_path / "f.npz"))


@pytest.mark.parametrize("write", [*SPECIAL.values(), lambda path: claiming_npz(path, "radar", "observed")])
def test_cases_do_not_claim_more_than_their_file(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "cases.npz")
    assert not Kept("unet", "radar", tmp_path / "cases.npz").is_readable
