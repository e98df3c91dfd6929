"""slurm/train.sbatch as a user submits it, on two real nodes, with what befalls it there."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster.cluster import NODES, Cluster

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.checkpoint import newest
from polarcast.hpc.config import load_config
from polarcast.hpc.run_folder import RunFolder
from polarcast.hpc.train import train
from polarcast.hpc.world import detect

pytestmark = pytest.mark.slurm
Submit = Callable[..., int]

SCRIPTS = Path(__file__).resolve().parents[2] / "slurm"
SETTINGS = [
    "model.widths=[4,8]", "match_params=false", "train.global_batch=4", "train.warmup_steps=2", "train.steps=60",
    "train.validate_every=4", "train.log_every=1", "train.threads=1",
]  # fmt: skip
# Most of it is two imports of torch on a machine whose cores may be busy.
TRAIN_SECONDS = 120
DOWN_SECONDS = 15


def losses(run: RunFolder) -> dict[int, float]:
    return {r["step"]: r["loss"] for r in run.records() if r["event"] == "step"}


def starts(run: RunFolder) -> list[tuple[int, int]]:
    return [(r["step"], r["world_size"]) for r in run.records() if r["event"] == "start"]


@pytest.fixture(scope="module")
def alone(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The loss of every step of an undisturbed run of one process."""
    run = RunFolder(tmp_path_factory.mktemp("alone"))
    train(load_config("demo", [f"data.shards={shards.folder}", *SETTINGS]), run, detect({}))
    return losses(run)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """The run folder of a job submitted from `tmp_path`."""
    return RunFolder(tmp_path / "runs" / "train")


@pytest.fixture
def submit(slurm: Cluster, shards: Manifest, tmp_path: Path) -> Iterator[Submit]:
    """Submits the script with options of sbatch; what the jobs printed is shown with a test that fails."""
    arguments = ["demo", f"data.shards={shards.folder}", *SETTINGS]

    def submit_training(*options: str) -> int:
        return slurm.submit(SCRIPTS / "train.sbatch", *arguments, chdir=tmp_path, options=options)

    yield submit_training
    slurm.run("scancel", "--user=root")
    for file in sorted(tmp_path.glob("*.log")):
        print(f"--- {file.name}\n{file.read_text()}")


def wait_for_step(run: RunFolder, step: int) -> None:
    deadline = time.monotonic() + TRAIN_SECONDS
    while max(losses(run), default=0) < step:
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.02)


def saved_step(run: RunFolder) -> int:
    saved = newest(run.checkpoints)
    assert saved is not None
    return int(json.loads((saved / "progress.json").read_text())["step"])


def test_two_nodes_have_the_loss_curve_of_one_process(
    slurm: Cluster, submit: Submit, run: RunFolder, alone: dict[int, float]
) -> None:
    slurm.wait_for(submit(), "COMPLETED", TRAIN_SECONDS)
    assert starts(run) == [(0, 2)]
    assert len(alone) == 60
    assert losses(run) == pytest.approx(alone, rel=1e-5, abs=1e-7)


def test_a_killed_rank_ends_the_job_and_the_same_command_continues_it(
    slurm: Cluster, submit: Submit, run: RunFolder, alone: dict[int, float]
) -> None:
    job = submit()
    wait_for_step(run, 1)
    node, process = slurm.task_process(job, rank=1)
    wait_for_step(run, 8)
    slurm.run_on(node, "kill", "-KILL", process)
    killed = time.monotonic()
    slurm.wait_for(job, "FAILED", DOWN_SECONDS)
    print(f"failed {time.monotonic() - killed:.1f} s after the kill of process {process} on {node}")
    step = saved_step(run)
    assert 4 <= step < 60
    slurm.wait_for(submit(), "COMPLETED", TRAIN_SECONDS)
    assert starts(run) == [(0, 2), (step, 2)]
    assert losses(run) == pytest.approx(alone, rel=1e-5, abs=1e-7)


def test_a_job_put_back_into_the_queue_continues(
    slurm: Cluster, submit: Submit, run: RunFolder, alone: dict[int, float]
) -> None:
    job = submit()
    wait_for_step(run, 8)
    slurm.run("scontrol", "requeue", job)
    slurm.wait_for(job, "PENDING", DOWN_SECONDS)
    step = saved_step(run)
    slurm.wait_for(job, "COMPLETED", TRAIN_SECONDS)
    assert starts(run) == [(0, 2), (step, 2)]
    assert losses(run) == pytest.approx(alone, rel=1e-5, abs=1e-7)


@pytest.fixture
def loopback_names(slurm: Cluster) -> Iterator[None]:
    """Each node takes its own name for 127.0.1.1, as Debian's installer writes it; the other's it knows."""
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
def test_nodes_that_take_their_own_names_for_loopback_find_each_other(
    slurm: Cluster, submit: Submit, run: RunFolder, alone: dict[int, float]
) -> None:
    slurm.wait_for(submit(), "COMPLETED", TRAIN_SECONDS)
    assert starts(run) == [(0, 2)]
    assert losses(run) == pytest.approx(alone, rel=1e-5, abs=1e-7)


def test_gpus_without_a_task_each_are_refused(slurm: Cluster, submit: Submit, tmp_path: Path) -> None:
    job = submit("--gpus-per-node=2")
    slurm.wait_for(job, "FAILED", DOWN_SECONDS)
    assert "2 GPUs a node, but 1 tasks" in (tmp_path / f"train-{job}.log").read_text()
