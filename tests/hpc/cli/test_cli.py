"""Messages and exit codes of the command line, and no partial output after errors."""

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
from tests.support import warm

Result = tuple[int, str, str]


def polarcast(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polarcast.hpc.cli", *map(str, arguments)]
    return warm.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one-line message of an error in the input."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("polarcast: ")
    return lines[0]


@pytest.fixture
def broken(archive: Archive, tmp_path: Path) -> Archive:
    """Copy of an archive, to be damaged by a test."""
    shutil.copytree(archive.root, tmp_path / "archive")
    return open_archive(tmp_path / "archive")


def test_truncated_frame_is_named_and_leaves_no_shards(broken: Archive, tmp_path: Path) -> None:
    damaged_file = broken.radar_file("zh", 1.0, 2, 0)
    damaged_file.write_bytes(damaged_file.read_bytes()[:100])
    assert str(damaged_file) in error_line(polarcast("data", "shard", broken.root, tmp_path / "shards"))
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_frame_of_wrong_shape_is_named(broken: Archive, tmp_path: Path) -> None:
    np.save(broken.rain_file(1, 1), np.zeros((16, 16), np.float32))
    assert "shape (16, 16)" in error_line(polarcast("data", "shard", broken.root, tmp_path / "shards"))


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
        (("train", "demo", "data.reader=fast"), "choose from: mapped, stream"),
        (("train", "demo", "train.graphs=maybe"), "choose from: auto, true, false"),
        (("train", "demo", "train.micro_batch=large"), "choose from: auto, or a number"),
        (("train", "demo", "data.balance=2"), "data.balance: must be at most 1"),
        (("train", "demo", "data.stream.lanes=0"), "data.stream"),
        (("data", "index", "nowhere"), "nowhere: no such folder"),
        (("evaluate", "nowhere"), "nowhere"),
        (("bench", "nonsense"), "nonsense"),
    ],
)
def test_bad_input_prints_one_line_and_exits_with_code_two(
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    polarcast_here: Callable[..., Result],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = polarcast_here(*arguments)
    assert words in error_line(subprocess.CompletedProcess(arguments, code, out, err))
    assert not list(tmp_path.rglob("*.tar"))


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = polarcast("--debug", "data", "check", tmp_path)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_check_prints_json_and_fails_on_damaged_shards(shards: Manifest, tmp_path: Path) -> None:
    sound = polarcast("data", "check", shards.folder, "--json")
    assert (sound.returncode, json.loads(sound.stdout)["ok"]) == (0, True)
    shutil.copytree(shards.folder, tmp_path / "s")
    damaged_file = next((tmp_path / "s").glob("*.tar"))
    damaged_file.write_bytes(b"\0" + damaged_file.read_bytes()[1:])
    damaged = polarcast("data", "check", tmp_path / "s", "--json")
    assert (damaged.returncode, json.loads(damaged.stdout)["ok"]) == (1, False)


@pytest.mark.multiprocess
def test_doctor_passes_on_this_machine() -> None:
    done = polarcast("doctor", "--json")
    checks = {c["where"]: c for c in json.loads(done.stdout)["checks"]}
    assert [c for c in checks.values() if not c["ok"]] == []
    assert done.returncode == 0
    assert set(checks) >= {"packages", "torch", "two processes", "free disk"}


def test_training_names_the_shards_also_where_none_were_given(
    shards: Manifest, tmp_path: Path, polarcast_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").symlink_to(shards.folder, target_is_directory=True)
    code, out, err = polarcast_here("train", "demo", "model.name=power_law", "--out", "law")
    assert (code, out.splitlines()[0]) == (0, "trained law on shards"), err


def test_more_processes_than_gpus_are_rejected_before_start(
    shards: Manifest, tmp_path: Path, polarcast_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polarcast.hpc.distributed.world.visible_gpus", lambda: 3)
    settings = (f"data.shards={shards.folder}", "train.global_batch=4", "--out", tmp_path / "run")
    code, out, err = polarcast_here("train", "demo", *settings, "--processes", "4")
    line = error_line(subprocess.CompletedProcess([], code, out, err))
    assert "--processes: 4 processes can't share 3 GPUs" in line
    assert "CUDA_VISIBLE_DEVICES" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.multiprocess
def test_doctor_reports_the_error_of_a_failed_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TALK", "raise ConnectionError('no wire between the two')")
    [communication] = [finding for finding in doctor.examine() if finding.where == "two processes"]
    assert not communication.ok
    assert "ConnectionError: no wire between the two" in communication.found


def test_doctor_reports_free_and_required_disk_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1.25e9))
    fits, message = doctor.free_disk()
    assert not fits
    assert "1.2 GB" in message
    assert "5 GB required" in message


def test_brackets_in_a_path_are_printed_unchanged(tmp_path: Path) -> None:
    letter = tmp_path / "[red]letter[1]"
    letter.write_text("no radar")
    done = polarcast("data", "ingest", str(tmp_path / "out"), str(letter))
    assert done.returncode == 2
    assert str(letter) in done.stdout.replace("\n", "")


def test_tars_of_other_software_are_indexed_and_checked_fast(
    shards: Manifest, tmp_path: Path, polarcast_here: Callable[..., Result]
) -> None:
    shutil.copytree(shards.folder, tmp_path / "s", ignore=shutil.ignore_patterns("manifest.json"))
    code, out, _ = polarcast_here("data", "index", tmp_path / "s", "--json")
    assert (code, json.loads(out)["frames"]) == (0, len(shards.samples))
    code, out, _ = polarcast_here("data", "check", tmp_path / "s", "--fast")
    assert code == 0
    assert "shard-000000.tar" in out
