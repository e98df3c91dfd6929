"""Two processes in one folder: one works, and the other ends with one line."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.sweeps.study import running
from tests.support import warm

Run = Callable[..., tuple[int, str, str]]
HELD = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
{hold}
    print("works", flush=True)
    sys.stdin.read()
"""
SUITE = "models: {net: {label: Net, set: {model: {name: power_law}}}}\ntables: {t: {title: T}}\n"
DATA = "data: {synth: {events: 12, frames: 1, size: 32, preset: tiny}}\n"
SPACE = "parameters: {train.learning_rate: {uniform: [0.001, 0.01]}}\n"


@contextmanager
def working(hold: str) -> Iterator[None]:
    """Run another process that holds a folder until the block ends."""
    process = warm.Popen(
        [sys.executable, "-c", HELD.format(hold=hold)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdin
    try:
        assert process.stdout.readline() == "works\n"
        yield
    finally:
        process.stdin.close()
        process.wait(60)


@pytest.mark.multiprocess
def test_a_suite_is_not_run_twice_at_once(tmp_path: Path, polarcast_here: Run) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE + DATA)
    command = ["bench", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")]
    first = warm.Popen([sys.executable, "-m", "polarcast.hpc.cli", *command], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "out" / "suite.yaml").exists():
            assert first.poll() is None
            time.sleep(0.05)
        code, _, message = polarcast_here(*command)
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    assert (code, len(message.splitlines())) == (2, 1), message
    assert "another process is working here" in message


@pytest.mark.multiprocess
@pytest.mark.parametrize("is_worker", [False, True])
def test_a_sweep_is_not_run_twice_at_once(tmp_path: Path, polarcast_here: Run, is_worker: bool) -> None:
    (tmp_path / "mine.yaml").write_text(SPACE + DATA)
    folder = tmp_path / "out"
    with working(f"from polarcast.sweeps.study import running\nwith running(Path({str(folder)!r}), {is_worker}):"):
        code, _, message = polarcast_here("sweep", tmp_path / "mine.yaml", "--out", folder)
        assert (code, len(message.splitlines())) == (2, 1), message
        assert "another process runs this sweep" in message
        assert not (folder / "space.json").exists()
        if is_worker:
            with running(folder, is_worker=True):  # workers share the folder
                pass
        else:
            with pytest.raises(BadInput, match="another process"), running(folder, is_worker=True):
                pass
    with running(folder, is_worker=False):
        pass


@pytest.mark.multiprocess
def test_a_local_sweep_is_reached_by_no_other_machine_or_user() -> None:
    script = """
import os
from pathlib import Path
from polarcast.sweeps import tune

def listening(pids):
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(fd)[8:-1])
            except OSError:
                pass
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]

def own():
    known = {os.getpid()}
    for _ in range(5):
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                if int(path.read_text().rsplit(")", 1)[1].split()[1]) in known:
                    known.add(int(path.parent.name))
            except OSError:
                pass
    return known

with tune._cluster(Path("/tmp")):
    found = set(listening(own()))
    print(found, os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"]))
    assert found and found <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "token 64" in done.stdout
