"""slurm/train.sbatch on two real nodes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from tests.support.slurm_cluster.cluster import NODES, Cluster

from .conftest import DOWN_SECONDS, SETTINGS, TRAIN_SECONDS, Training

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("tidy")]
Submit = Callable[..., int]
SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "train.sbatch"


@pytest.fixture
def sbatch(slurm: Cluster, shards: Manifest, tmp_path: Path) -> Submit:
    """Return a function that submits the script with sbatch options."""
    arguments = ["demo", f"data.shards={shards.folder}", *SETTINGS]

    def submit_script(*options: str) -> int:
        return slurm.submit(SCRIPT, *arguments, chdir=tmp_path, options=options)

    return submit_script


@pytest.fixture
def loopback_names(slurm: Cluster) -> Iterator[None]:
    """Make each node resolve its own name to 127.0.1.1, as the Debian installer configures it."""
    files = {node: slurm.folder / f"hosts.{node}" for node in NODES}
    before = {node: file.read_text() for node, file in files.items()}
    # Written in place: the file is mounted over the node's /etc/hosts.
    for node, file in files.items():
        file.write_text(f"127.0.1.1 {node}\n{before[node]}")
        assert slurm.run_on(node, "getent", "ahosts", node).startswith("127.0.1.1")
    yield
    for node, file in files.items():
        file.write_text(before[node])


@pytest.mark.usefixtures("loopback_names")
def test_nodes_with_loopback_names_give_the_losses_of_one_process(
    slurm: Cluster, sbatch: Submit, training: Training, alone: Callable[..., dict[int, float]]
) -> None:
    job = sbatch()
    training.wait_for_step(1)
    listening = [addresses_of_python(slurm, node) for node in NODES]
    slurm.wait_for(job, "COMPLETED", TRAIN_SECONDS)
    # The store and the heartbeats of rank 0, and the process group of each rank.
    assert listening == [{"10.77.0.11"}, {"10.77.0.12"}]
    assert training.starts == [(0, 2)]
    assert training.losses == pytest.approx(alone(), rel=1e-5, abs=1e-7)
    [start] = training.of("start")
    assert start["hosts"] == ["n1", "n2"]
    assert start["all_reduce_gb_per_s"] > 0
    for step in training.of("step"):
        slowest = step["slowest"]
        assert slowest["host"] == start["hosts"][slowest["rank"]]
        assert slowest["seconds"] == max(step["own_seconds"]) > 0


def addresses_of_python(slurm: Cluster, node: str) -> set[str]:
    """Return the addresses on which the ranks of a node listen."""
    rows = slurm.run_on(node, "ss", "-Hltnp").splitlines()
    return {row.split()[3].rpartition(":")[0] for row in rows if "python" in row or "polarcast" in row}


def test_requeued_job_resumes(
    slurm: Cluster, sbatch: Submit, training: Training, alone: Callable[..., dict[int, float]]
) -> None:
    job = sbatch()
    training.wait_for_step(8)
    slurm.run("scontrol", "requeue", job)
    slurm.wait_for(job, "PENDING", DOWN_SECONDS)
    step = training.saved
    slurm.wait_for(job, "COMPLETED", TRAIN_SECONDS)
    assert training.starts[0] == (0, 2)
    assert training.starts[1][0] >= step >= 4
    assert training.losses == pytest.approx(alone(), rel=1e-5, abs=1e-7)


def test_gpus_must_equal_tasks(slurm: Cluster, sbatch: Submit, tmp_path: Path) -> None:
    job = sbatch("--gpus-per-node=2")
    slurm.wait_for(job, "FAILED", DOWN_SECONDS)
    assert "2 GPUs per node, but 1 tasks" in (tmp_path / f"train-{job}.log").read_text()
