"""`make install` keeps what pip says to itself, unless it fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PIP = """#!/bin/sh
echo Collecting torch
echo WARNING: retrying >&2
case "$*" in *--index-url*) exit {index};; esac
exit {default}
"""


def install(folder: Path, index: int, default: int) -> subprocess.CompletedProcess[str]:
    """Run `make install` with a pip that ends with these exit codes, for PyTorch's index and for the default one."""
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / file, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name, text in {"pip": PIP.format(index=index, default=default), "python": "#!/bin/sh\n"}.items():
        (folder / ".venv" / "bin" / name).write_text(text, encoding="utf-8")
        (folder / ".venv" / "bin" / name).chmod(0o755)
    command = ["make", "install", "HAS_GPU=no"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("index", [0, 1])
def test_an_installation_prints_what_it_does_only(tmp_path: Path, index: int) -> None:
    done = install(tmp_path, index, 0)
    assert (done.returncode, done.stderr) == (0, "")
    first, *others = done.stdout.splitlines()
    assert first.startswith("Installing polarcast")
    assert [line.partition(" of torch")[0] for line in others] == ["no CPU wheel"] * index
    assert (tmp_path / ".venv" / ".installed").is_file()


def test_a_failed_installation_shows_all_that_pip_said(tmp_path: Path) -> None:
    done = install(tmp_path, 0, 1)
    assert done.returncode != 0
    assert done.stderr.count("Collecting torch") == done.stderr.count("WARNING: retrying") == 2
    assert not (tmp_path / ".venv" / ".installed").exists()
