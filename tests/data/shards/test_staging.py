"""Staging on the node's disk: copy once, verify, mark when complete, and fall back to the source."""

import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polarcast.data.loading.reader import open_reader
from polarcast.data.shards import fetch, staging
from polarcast.data.shards.fetch import Fetch, Patience
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.staging import stage
from tests.support import warm
from tests.support.marked_shards import all_to_train, marked_shards, samples_of

ONCE = Patience(retries=0)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Four shards of one event each."""
    return marked_shards(tmp_path / "source", (3, 3, 3, 3))


def staged_files(root: Path) -> list[str]:
    return sorted(p.name for p in root.rglob("*") if p.is_file())


def test_the_copy_can_be_read_and_equals_the_source(manifest: Manifest, tmp_path: Path) -> None:
    staged = stage(manifest, tmp_path / "nvme")
    assert staged.folder.is_relative_to(tmp_path / "nvme")
    assert staged.digest() == manifest.digest()
    reader = open_reader(staged, "train", variables=("zh",), heights_km=(3.0,))
    assert len(samples_of(reader.read(range(12)))) == 12
    assert all_to_train(read_manifest(staged.folder)).to_json() == manifest.to_json()


def test_a_complete_copy_is_reused(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage(manifest, tmp_path / "nvme")
    monkeypatch.setattr(staging, "_fill", lambda *_: pytest.fail("copied again"))
    assert stage(manifest, tmp_path / "nvme") == first


def _stage_and_count(manifest: Manifest, root: Path, counted: Path) -> None:
    save = Fetch.save

    def counting(self: Fetch, path: Path) -> None:
        (counted / f"{os.getpid()}-{path.name}").touch()
        time.sleep(0.05)
        save(self, path)

    Fetch.save = counting  # type: ignore[method-assign]
    assert stage(manifest, root).folder.is_relative_to(root)


def test_processes_of_a_node_copy_each_shard_once(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "counted").mkdir()
    arguments = (manifest, tmp_path / "nvme", tmp_path / "counted")
    processes = [multiprocessing.get_context("fork").Process(target=_stage_and_count, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert len(list((tmp_path / "counted").iterdir())) == 4


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_full_disk_falls_back_to_the_source_and_leaves_no_files(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    if when == "before":
        monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    else:
        save = Fetch.save

        def full(self: Fetch, path: Path) -> None:
            if "000002" in path.name:
                path.write_bytes(b"half")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            save(self, path)

        monkeypatch.setattr(Fetch, "save", full)
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert stage(manifest, tmp_path / "nvme") is manifest
    assert "is full" in caplog.text
    assert staged_files(tmp_path / "nvme") == [".lock"]


def test_a_folder_that_can_not_be_created_falls_back_to_the_source(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert stage(manifest, tmp_path / "file") is manifest
    assert "can't be used" in caplog.text


def test_a_bad_source_shard_is_skipped_with_a_warning(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = manifest.folder / manifest.shards[1].name
    content = bytearray(damaged.read_bytes())
    content[1500] ^= 1
    damaged.write_bytes(content)
    with caplog.at_level(logging.WARNING, "polarcast"):
        staged = stage(manifest, tmp_path / "nvme", ONCE)
    assert damaged.name in caplog.text
    assert sorted(p.name for p in staged.folder.glob("*.tar")) == [
        s.name for s in manifest.shards if s.name != damaged.name
    ]


HOLD = """
import sys, time
from pathlib import Path
from polarcast.data.shards.fetch import Fetch
from polarcast.data.shards.manifest import read_manifest
from polarcast.data.shards.staging import stage
save = Fetch.save
def slow(self, path):
    save(self, path)
    if "000002" in path.name:
        print("copying", flush=True)
        time.sleep(60)
Fetch.save = slow
stage(read_manifest(sys.argv[1]), Path(sys.argv[2]))
"""


def test_staging_resumes_after_a_kill(manifest: Manifest, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(manifest.folder), str(tmp_path / "nvme")]
    with warm.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "copying\n"
        process.send_signal(signal.SIGKILL)
    [folder] = (tmp_path / "nvme").iterdir()
    assert not (folder / "manifest.json").exists()
    kept = {p.name: p.stat().st_ino for p in folder.glob("shard-*.tar")}
    assert sorted(kept) == ["shard-000000.tar", "shard-000001.tar"]
    staged = stage(read_manifest(manifest.folder), tmp_path / "nvme")
    assert {name: (staged.folder / name).stat().st_ino for name in kept} == kept
    assert len(list(staged.folder.glob("*.tar"))) == 4


def test_a_stalled_source_is_reported_and_retried(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetch, "_WARN_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(fetch, "_POLL_SECONDS", 0.05)
    script = tmp_path / "stalling.sh"
    stall_once = f"[ $1 != manifest.json ] && mkdir {tmp_path}/tried 2>/dev/null && sleep 300"
    script.write_text(f"{stall_once}; cat {manifest.folder}/$1")
    remote = read_manifest(f"pipe:sh {script} {{name}}")
    with caplog.at_level(logging.WARNING, "polarcast"):
        staged = stage(remote, tmp_path / "nvme", Patience(retries=1, first_pause_seconds=0.01, stall_seconds=0.6))
    assert ["waiting" in m for m in caplog.messages] == [True, False]
    assert all("shard-000000.tar" in m for m in caplog.messages)
    assert len(list(staged.folder.glob("shard-*.tar"))) == 4
