"""Run `peers.py` in its own environment, which is created on first use."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polarcast.data.errors import WorkFailed
from polarcast.data.files import write_text
from polarcast.data.user_cache import user_cache
from polarcast.hpc.perf.measure import Run

if TYPE_CHECKING:
    from polarcast.hpc.perf.spec import LoaderSpec

REQUIREMENTS = ("litdata==0.2.76", "mosaicml-streaming==0.13.0")


@contextmanager
def peers(folder: Path, frames: np.ndarray, spec: "LoaderSpec") -> Iterator[dict[str, Run]]:
    """Start the contenders of other libraries in a process that ends with the block.

    Args:
        folder: Folder for their data, which must not exist.
        frames: Frames to store, (n, v, y, x) float16.
        spec: Sizes of a batch.

    Raises:
        WorkFailed: their environment cannot be created, or the process ended early.
    """
    folder.mkdir()
    np.save(folder / "frames.npy", frames)
    command = [_environment(), Path(__file__).with_name("peers.py"), folder, json.dumps(asdict(spec))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(c) for c in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",
        )
        try:
            names = json.loads(_read_line(process, folder))
            yield {name: partial(_deliver, process, folder, name, spec) for name in names}
        finally:
            process.kill()
            process.wait()


def _deliver(process: subprocess.Popen[str], folder: Path, name: str, spec: "LoaderSpec") -> float:
    assert process.stdin
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    _read_line(process, folder)
    return spec.batches * spec.batch_bytes / 1e9


def _read_line(process: subprocess.Popen[str], folder: Path) -> str:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        last = (folder / "log").read_text("utf-8", "replace").strip().splitlines()[-1:]
        raise WorkFailed(f"the process of litdata and mosaicml-streaming ended early: {' '.join(last)}")
    return line


def _environment() -> Path:
    """Return a Python with the peers installed, in the user's cache, with the torch version of this process."""
    from importlib.metadata import version

    cache = user_cache()
    if cache is None:
        raise WorkFailed("no home folder for the environment of the peers: set XDG_CACHE_HOME to a folder")
    root = cache / "peers"
    python, done = root / "bin" / "python", root / "installed"
    wanted = "\n".join([*REQUIREMENTS, f"torch=={version('torch').split('+')[0]}"])
    if done.is_file() and done.read_text("utf-8") == wanted:
        return python
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.split()]
    for step in ([sys.executable, "-m", "venv", root], install):
        finished = subprocess.run([str(part) for part in step], capture_output=True, encoding="utf-8", errors="replace")
        if finished.returncode:
            raise WorkFailed(f"cannot create the environment {root}: {finished.stderr.strip()[-300:]}")
    write_text(done, wanted)
    return python
