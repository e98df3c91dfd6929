"""The test cluster: two separate nodes, and complete cleanup."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.slurm_cluster import cluster as module
from tests.support.slurm_cluster.cluster import NODES, Cluster, what_is_missing

HOLD = """
import signal, sys, time
# Tests that run in the background inherit an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from tests.support.slurm_cluster.cluster import cluster
with cluster(Path(sys.argv[1])) as running:
    print(running.init, flush=True)
    time.sleep(60)
"""


def descendants(process: int) -> list[int]:
    found = [process]
    for parent in found:
        found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


@pytest.mark.slurm
def test_nodes_are_two_hosts(slurm: Cluster) -> None:
    output = slurm.run("srun", "--nodes=2", "bash", "-c", "hostname; readlink /proc/self/ns/net").split()
    assert sorted(w for w in output if w in NODES) == list(NODES)
    assert len({w for w in output if w.startswith("net:")}) == 2


@pytest.mark.slurm
def test_failed_command_error_includes_its_output(slurm: Cluster) -> None:
    with pytest.raises(RuntimeError, match="invalid partition"):
        slurm.run("srun", "--partition=nowhere", "true")


@pytest.mark.slurm
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_cluster_ends_when_the_tests_are_killed(slurm: Cluster, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    tests = subprocess.Popen(command, cwd=module.HERE.parents[2], stdout=subprocess.PIPE, text=True)
    assert tests.stdout
    init = int(tests.stdout.readline())
    running = descendants(init)
    assert len(running) > 6
    tests.send_signal(how)
    tests.communicate(timeout=15)
    deadline = time.monotonic() + 5
    while left := [p for p in running if Path(f"/proc/{p}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_missing_packages_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SYSTEM_PATH", "/nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert what_is_missing() == "no iproute2, munge, slurm-wlm: apt-get install slurm-wlm munge iproute2"
