"""Processes of the fork server start warm and isolated; they end with their parent, or with a signal of their own."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from polarcast.hpc.bench.fork_server import enter, leave_job, redirect, start_server

SLEEPS = 600.0
KILLED = """
import os, sys
from pathlib import Path
from polarcast.hpc.bench.fork_server import start_server
from tests.hpc.bench.test_fork_server import report_and_sleep
process = start_server().Process(target=report_and_sleep, args=(Path(sys.argv[1]),), daemon=True)
process.start()
while not Path(sys.argv[1]).exists():
    pass
os.kill(os.getpid(), 9)
"""


def report(file: Path) -> None:
    """Write which modules were imported before this process began, and what it was left of its surroundings."""
    imported = sorted({"torch", "polarcast.hpc.training.train", "polarcast.hpc.evaluation.evaluate"} & {*sys.modules})
    redirect(file.with_suffix(".out"))
    leave_job()
    enter()
    import torch

    print(*imported, torch.cuda.is_initialized(), [n for n in os.environ if n.startswith("SLURM")], repr(os.read(0, 1)))
    print("error", file=sys.stderr, flush=True)
    raise SystemExit(7)


def report_and_sleep(file: Path) -> None:
    enter()
    file.with_suffix(".part").write_text(str(os.getpid()))
    file.with_suffix(".part").rename(file)
    time.sleep(SLEEPS)


def sleep_before_entering(file: Path) -> None:
    """Receive a signal before `enter`, as right after the fork."""
    file.touch()
    while signal.SIGTERM not in signal.sigpending():
        time.sleep(0.01)
    enter()
    time.sleep(SLEEPS)


def start(target: Callable[[Path], None], file: Path) -> BaseProcess:
    process = start_server().Process(target=target, args=(file,), daemon=True)
    process.start()
    return process


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def fault_pages(file: Path) -> None:
    """Write the page faults of allocating and freeing 40 MB a hundred times, in pieces."""
    enter()
    import torch

    def once() -> None:
        assert len([torch.ones(2**20) for _ in range(10)]) == 10

    once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        once()
    file.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))


def test_freed_memory_is_used_again_without_page_faults(tmp_path: Path) -> None:
    process = start(fault_pages, tmp_path / "faults")
    process.join(120)
    # Pages that are returned to the system fault again: 100 × 40 MB of 4 KiB pages are a million.
    assert int((tmp_path / "faults").read_text()) < 50_000
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


def test_process_starts_with_the_imports_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no part in the Slurm job, writes to its own file, reads nothing, and has not initialized CUDA."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    process = start(report, tmp_path / "cell")
    process.join(120)
    imported = "polarcast.hpc.evaluation.evaluate polarcast.hpc.training.train torch"
    assert (tmp_path / "cell.out").read_text() == f"{imported} False [] b''\nerror\n"
    assert process.exitcode == 7


@pytest.mark.parametrize("target", [report_and_sleep, sleep_before_entering])
def test_no_signal_is_lost(tmp_path: Path, target: Callable[[Path], None]) -> None:
    process = start(target, tmp_path / "pid")
    wait_for(tmp_path / "pid")
    process.terminate()
    process.join(120)
    assert process.exitcode == -signal.SIGTERM


def test_server_outlives_signals_to_all_processes(tmp_path: Path) -> None:
    process = start(report_and_sleep, tmp_path / "pid")
    wait_for(tmp_path / "pid")
    server = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert server != os.getpid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        os.kill(server, number)
    process.kill()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    other = start(report, tmp_path / "cell")
    other.join(120)
    assert other.exitcode == 7


def test_process_ends_with_a_killed_parent(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    done = subprocess.run([sys.executable, "-c", KILLED, file], timeout=300)
    assert done.returncode == -signal.SIGKILL
    cell = Path("/proc", file.read_text())
    deadline = time.monotonic() + 120
    while cell.exists() and b"multiprocessing" in (cell / "cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
