"""The command line as users meet it: words, exit codes, and nothing left half-written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed import doctor

Told = tuple[int, str, str]


def polarcast(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polarcast.hpc.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error in the input."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("polarcast: ")
    return lines[0]


@pytest.fixture
def broken(archive: Archive, tmp_path: Path) -> Archive:
    """An archive that a test may damage."""
    shutil.copytree(archive.root, tmp_path / "archive")
    return open_archive(tmp_path / "archive")


def test_a_truncated_frame_is_named_and_no_shards_are_left(broken: Archive, tmp_path: Path) -> None:
    victim = broken.radar_file("zh", 1.0, 2, 0)
    victim.write_bytes(victim.read_bytes()[:100])
    assert str(victim) in refused(polarcast("data", "shard", broken.root, tmp_path / "shards"))
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_a_frame_of_another_shape_is_named(broken: Archive, tmp_path: Path) -> None:
    np.save(broken.rain_file(1, 1), np.zeros((16, 16), np.float32))
    assert "shape (16, 16)" in refused(polarcast("data", "shard", broken.root, tmp_path / "shards"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("data", "shard", "nowhere", "out"), "nowhere"),
        (("data", "check", "nowhere"), "nowhere"),
        (("data", "synth", "out", "--preset", "mars"), "mars"),
        (("train", "demo", "data.shards=nowhere"), "nowhere"),
        (("train", "demo", "data.shards=nowhere", "--processes", "2"), "nowhere"),
        (("train", "demo", "train.step=1"), "did you mean train.steps?"),
        (("train", "demo", "data.variables=[zh,kdp]"), "KDP is forbidden in QPE"),
        (("train", "nonsense"), "nonsense"),
        (("train", "demo", "data.shards=http://127.0.0.1:9/x"), "http://127.0.0.1:9/x/manifest.json: can't be read"),
        (("train", "demo", "data.reader=fast"), "there are: mapped, stream"),
        (("train", "demo", "data.balance=2"), "give a number from 0 to 1"),
        (("train", "demo", "data.stream.lanes=0"), "data.stream"),
        (("data", "index", "nowhere"), "nowhere: no tar is there"),
        (("evaluate", "nowhere"), "nowhere"),
        (("bench", "nonsense"), "nonsense"),
    ],
)
def test_bad_input_is_one_line_and_code_two(
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    polarcast_here: Callable[..., Told],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = polarcast_here(*arguments)
    assert words in refused(subprocess.CompletedProcess(arguments, code, out, err))
    assert not list(tmp_path.rglob("*.tar"))


def test_debug_shows_where_it_happened(tmp_path: Path) -> None:
    done = polarcast("--debug", "data", "check", tmp_path)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_check_answers_in_json_and_fails_on_damage(shards: Manifest, tmp_path: Path) -> None:
    sound = polarcast("data", "check", shards.folder, "--json")
    assert (sound.returncode, json.loads(sound.stdout)["ok"]) == (0, True)
    shutil.copytree(shards.folder, tmp_path / "s")
    victim = next((tmp_path / "s").glob("*.tar"))
    victim.write_bytes(b"\0" + victim.read_bytes()[1:])
    damaged = polarcast("data", "check", tmp_path / "s", "--json")
    assert (damaged.returncode, json.loads(damaged.stdout)["ok"]) == (1, False)


@pytest.mark.multiprocess
def test_doctor_finds_this_machine_fit() -> None:
    done = polarcast("doctor", "--json")
    checks = {c["where"]: c for c in json.loads(done.stdout)["checks"]}
    assert [c for c in checks.values() if not c["ok"]] == []
    assert done.returncode == 0
    assert set(checks) >= {"packages", "torch", "two processes", "free disk"}


def test_more_processes_than_gpus_are_refused_before_any_starts(
    shards: Manifest, tmp_path: Path, polarcast_here: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polarcast.hpc.distributed.world.visible_gpus", lambda: 3)
    settings = (f"data.shards={shards.folder}", "train.global_batch=4", "--out", tmp_path / "run")
    code, out, err = polarcast_here("train", "demo", *settings, "--processes", "4")
    line = refused(subprocess.CompletedProcess([], code, out, err))
    assert "--processes: 4 processes can't share 3 GPUs" in line
    assert "CUDA_VISIBLE_DEVICES" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.multiprocess
def test_doctor_tells_what_a_failed_rank_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TALK", "raise ConnectionError('no wire between the two')")
    [wire] = [finding for finding in doctor.examine() if finding.where == "two processes"]
    assert not wire.ok
    assert "ConnectionError: no wire between the two" in wire.found


def test_doctor_says_how_much_room_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1.25e9))
    fits, told = doctor.free_disk()
    assert not fits
    assert "1.2 GB" in told
    assert "5 are needed" in told


def test_brackets_in_a_path_are_told_as_they_are(tmp_path: Path) -> None:
    letter = tmp_path / "[red]letter[1]"
    letter.write_text("no radar")
    done = polarcast("data", "ingest", str(tmp_path / "out"), str(letter))
    assert done.returncode == 2
    assert str(letter) in done.stdout.replace("\n", "")


def test_foreign_tars_are_indexed_then_checked_fast(
    shards: Manifest, tmp_path: Path, polarcast_here: Callable[..., Told]
) -> None:
    shutil.copytree(shards.folder, tmp_path / "s", ignore=shutil.ignore_patterns("manifest.json"))
    code, out, _ = polarcast_here("data", "index", tmp_path / "s", "--json")
    assert (code, json.loads(out)["frames"]) == (0, len(shards.samples))
    code, out, _ = polarcast_here("data", "check", tmp_path / "s", "--fast")
    assert code == 0
    assert "shard-000000.tar" in out
