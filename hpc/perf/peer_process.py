"""Runs `peers.py` in an environment of its own, made on request."""

import json
import os
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
from polarcast.hpc.perf.measure import Run

if TYPE_CHECKING:
    from polarcast.hpc.perf.spec import LoaderSpec

REQUIREMENTS = ("litdata==0.2.76", "mosaicml-streaming==0.13.0")


@contextmanager
def peers(folder: Path, frames: np.ndarray, spec: "LoaderSpec") -> Iterator[dict[str, Run]]:
    """Contenders of other libraries, alive for as long as the block.

    Args:
        folder: An empty folder for their data.
        frames: (n, v, y, x) float16: what they store.
        spec: What a batch is.

    Raises:
        WorkFailed: their environment can't be made, or they ended early.
    """
    folder.mkdir()
    np.save(folder / "frames.npy", frames)
    command = [_environment(), Path(__file__).with_name("peers.py"), folder, json.dumps(asdict(spec))]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            names = json.loads(_answer(process, folder))
            yield {name: partial(_deliver, process, folder, name, spec) for name in names}
        finally:
            process.kill()
            process.wait()


def _deliver(process: subprocess.Popen[str], folder: Path, name: str, spec: "LoaderSpec") -> float:
    assert process.stdin
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    _answer(process, folder)
    return spec.batches * spec.batch_bytes / 1e9


def _answer(process: subprocess.Popen[str], folder: Path) -> str:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        last = (folder / "log").read_text().strip().splitlines()[-1:]
        raise WorkFailed(f"litdata and mosaicml-streaming ended early: {' '.join(last)}")
    return line


def _environment() -> Path:
    """Python with the peers installed, in the user's cache; torch is of our version."""
    from importlib.metadata import version

    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polarcast" / "peers"
    python, done = root / "bin" / "python", root / "installed"
    wanted = "\n".join([*REQUIREMENTS, f"torch=={version('torch').split('+')[0]}"])
    if done.is_file() and done.read_text() == wanted:
        return python
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.split()]
    for step in ([sys.executable, "-m", "venv", root], install):
        finished = subprocess.run([str(part) for part in step], capture_output=True, text=True)
        if finished.returncode:
            raise WorkFailed(f"the peers' environment {root} can't be made: {finished.stderr.strip()[-300:]}")
    done.write_text(wanted)
    return python
