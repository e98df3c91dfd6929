"""On a disk that users share, no folder or link of another user is used; two writers of one folder lose nothing."""

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.fetch import Fetch, Patience
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.staging import stage
from polarcast.data.shards.write import write_shards
from polarcast.hpc.evaluation.evaluate import evaluate
from tests.support import warm
from tests.support.finished_run import BASELINE, finished
from tests.support.marked_shards import marked_shards

ANOTHER = 12345
ONCE = Patience(retries=0)
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two shards of one event each."""
    return marked_shards(tmp_path / "source", (3, 3))


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file that must keep its content."""
    path = tmp_path / "victim"
    path.write_text("kept")
    yield path
    assert path.read_text() == "kept"


def folder_of(manifest: Manifest, root: Path) -> Path:
    """The folder that is staged to, as anybody can compute it."""
    staged = stage(manifest, root / "elsewhere", ONCE).folder
    return root / staged.name


def stage_with_warning(manifest: Manifest, root: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Stage, which must read the source directly; return the only warning."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert stage(manifest, root, ONCE) is manifest
    [message] = caplog.messages
    assert "\n" not in message
    assert f"reading the shards from {manifest.folder}" in message
    return message


@only_root
def test_a_stage_folder_of_another_user_is_not_used(
    manifest: Manifest, tmp_path: Path, victim: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "nvme"
    folder = folder_of(manifest, root)
    folder.mkdir()
    for name in (".lock", f".{manifest.shards[0].name}.part", manifest.shards[0].name):
        (folder / name).symlink_to(victim)
    os.chown(folder, ANOTHER, ANOTHER)
    assert "belongs to another user" in stage_with_warning(manifest, root, caplog)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_stage_folder_that_others_write_to_is_not_used(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    folder = folder_of(manifest, tmp_path / "nvme")
    folder.mkdir()
    folder.chmod(mode)
    assert "others may write" in stage_with_warning(manifest, tmp_path / "nvme", caplog)
    assert not list(folder.iterdir())


def test_a_link_in_place_of_the_stage_folder_is_not_followed(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    folder_of(manifest, tmp_path / "nvme").symlink_to(target)
    stage_with_warning(manifest, tmp_path / "nvme", caplog)
    assert not list(target.iterdir())


@pytest.mark.parametrize("name", [".lock", ".shard-000000.tar.part", "shard-000000.tar", "manifest.json"])
def test_a_link_in_the_stage_folder_is_not_written_through(
    manifest: Manifest, tmp_path: Path, victim: Path, name: str
) -> None:
    folder = folder_of(manifest, tmp_path / "nvme")
    folder.mkdir(mode=0o700)
    (folder / name).symlink_to(victim)
    staged = stage(manifest, tmp_path / "nvme", ONCE)
    assert all((staged.folder / shard.name).stat().st_size == shard.bytes for shard in manifest.shards)
    assert staged is manifest or not any(path.is_symlink() for path in staged.folder.iterdir())


def test_others_can_not_read_a_staged_copy(manifest: Manifest, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = stage(manifest, tmp_path / "nvme", ONCE).folder
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.iterdir()} == {".lock", "manifest.json", *(s.name for s in manifest.shards)}


def test_an_interrupted_copy_of_our_own_is_still_used(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(manifest, tmp_path / "nvme")
    folder.mkdir(mode=0o700)
    (tmp_path / "nvme" / "elsewhere" / folder.name / manifest.shards[0].name).rename(folder / manifest.shards[0].name)
    (folder / manifest.shards[1].name).write_bytes(b"cut short")
    copied: list[str] = []
    save = Fetch.save
    monkeypatch.setattr(Fetch, "save", lambda self, path: (copied.append(path.name), save(self, path)))
    assert stage(manifest, tmp_path / "nvme", ONCE).folder == folder
    assert copied == [f".{manifest.shards[1].name}.part"]


@only_root
def test_a_working_folder_of_another_user_is_not_written_to(archive: Archive, tmp_path: Path, victim: Path) -> None:
    partial = tmp_path / ".partial_shards"
    partial.mkdir(mode=0o777)
    (partial / "shard-000000.tar").symlink_to(victim)
    os.chown(partial, ANOTHER, ANOTHER)
    with pytest.raises(BadInput, match="another user"):
        write_shards(archive, tmp_path / "shards")


SLOW = """
import sys, time
from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards import write
def on_event(done):
    print("packed", flush=True)
    time.sleep(float(sys.argv[3]))
try:
    write.write_shards(open_archive(sys.argv[1]), sys.argv[2], shard_mb=0, on_event=on_event)
except BadInput as error:
    print(error, flush=True)
    sys.exit(2)
"""


def shard_slowly(archive: Archive, out: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(archive.root), str(out), str(pause)]
    return warm.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_do_not_shard_into_one_folder(archive: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out" / "shards"
    with shard_slowly(archive, out, 0.3) as first:
        assert first.stdout
        assert first.stdout.readline() == "packed\n"
        with shard_slowly(archive, out, 0) as second:
            [line] = second.communicate(timeout=60)[0].splitlines()
        assert second.returncode == 2
        assert "another process is working here" in line
        assert first.poll() is None
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert read_manifest(out).digest() == write_shards(archive, tmp_path / "alone", shard_mb=0).digest()
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in (tmp_path / "alone").iterdir())
    assert [p.name for p in out.parent.iterdir()] == ["shards"]


def test_a_killed_process_does_not_keep_the_folder(archive: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out" / "shards"
    with shard_slowly(archive, out, 60) as first:
        assert first.stdout
        first.stdout.readline()
        first.send_signal(signal.SIGKILL)
    assert not out.exists()
    kept = (out.with_name(".partial_shards") / "shard-000000.tar").stat().st_ino
    manifest = write_shards(archive, out, shard_mb=0)
    assert (out / "shard-000000.tar").stat().st_ino == kept
    assert manifest.digest() == write_shards(archive, tmp_path / "alone", shard_mb=0).digest()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fits", ["nothing", "scores"])
def test_a_full_disk_does_not_replace_cases_or_scores(shards: Manifest, tmp_path: Path, fits: str) -> None:
    run = finished(shards, tmp_path / "run", *BASELINE)
    evaluate(run, shards, run.output)
    before = contents(run.path)
    sizes = sorted(path.stat().st_size for path in (run.output.scores, run.output.cases))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 if fits == "nothing" else sizes[0] + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            evaluate(run, shards, run.output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(run.path) == before


class _Killed(BaseException):
    """Simulates SIGKILL at a rename."""


@pytest.mark.parametrize("renamed", [0, 1])
def test_a_kill_does_not_mix_the_files_of_two_evaluations(
    shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    run = finished(shards, tmp_path / "run", *BASELINE)
    evaluate(run, shards, run.output)
    files = (run.output.scores, run.output.cases)
    old, replace, done = {path: path.stat().st_mtime_ns for path in files}, os.replace, []

    def killing(source: Path, target: Path) -> None:
        if target in files:
            done.append(target)
            if len(done) > renamed:
                raise _Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", killing)
    with pytest.raises(_Killed):
        evaluate(run, shards, run.output)
    monkeypatch.undo()
    assert len({path.stat().st_mtime_ns == old[path] for path in files if path.exists()}) == 1
    evaluate(run, shards, run.output)
    assert all(path.stat().st_mtime_ns > old[path] for path in files)
