"""Links that others put next to a file lead no write elsewhere."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from polarcast.data.files import replacing, write_bytes, write_json, write_private, write_text
from polarcast.hpc.runs import checkpoint

WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_bytes(path, b"new"),
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"new": 1}),
    "private": lambda path: write_private(path, "new"),
    "weights": lambda path: checkpoint.save_weights(path, {"bias": torch.ones(3)}),
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_at_a_name_that_follows_from_the_process_leads_no_write_elsewhere(
    tmp_path: Path, victim: Path, name: str, exists: bool
) -> None:
    target = victim if exists else tmp_path / "absent"
    out = tmp_path / "shared" / "report.json"
    out.parent.mkdir()
    (out.parent / f".report.json.{os.getpid()}").symlink_to(target)
    WRITERS[name](out)
    assert victim.read_text() == "mine"
    assert not (tmp_path / "absent").exists()
    assert not out.is_symlink()
    assert out.stat().st_size


def test_a_link_at_the_temporary_name_itself_is_not_followed(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polarcast.data.files.secrets.token_hex", lambda _: "0")
    (tmp_path / ".out.0").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "out", "new")
    assert victim.read_text() == "mine"
    assert (tmp_path / ".out.0").is_symlink()
    assert not (tmp_path / "out").exists()


def test_a_link_at_the_final_name_is_replaced_not_followed(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "out").symlink_to(victim)
    write_text(tmp_path / "out", "new")
    assert victim.read_text() == "mine"
    assert (tmp_path / "out").read_text() == "new"


def test_two_writers_of_one_process_share_no_temporary_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as first, replacing(tmp_path / "out") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "first"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_new_files_are_not_more_open_than_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        for name, write in WRITERS.items():
            write(tmp_path / name)
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in WRITERS}
    assert modes == dict.fromkeys(WRITERS, mode) | {"private": 0o600}
