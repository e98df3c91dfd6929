"""`polarcast submit` on a real cluster."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from tests.support.slurm_cluster.cluster import Cluster

from .conftest import SETTINGS, TRAIN_SECONDS, Training

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("tidy")]
Submit = Callable[..., int]


def polarcast(slurm: Cluster, folder: Path, *arguments: object, seconds: float = 60) -> str:
    return slurm.run("bash", "-c", 'cd "$1" && shift && exec polarcast "$@" 2>&1', "bash", folder, *arguments,
                     seconds=seconds)  # fmt: skip


def test_wait_follows_the_job_to_its_end(
    slurm: Cluster, shards: Manifest, tmp_path: Path, training: Training, alone: Callable[..., dict[int, float]]
) -> None:
    verb = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS]
    output = polarcast(slurm, tmp_path, "submit", "--cluster=test", "--name=train", "--wait", "--json", "--", *verb,
                     seconds=TRAIN_SECONDS)  # fmt: skip
    result = json.loads(output[output.index("{") :])
    assert (result["state"], result["run"]) == ("COMPLETED", "runs/train")
    assert f"job {result['job']} running" in output
    assert "step 60 of 60" in output
    assert (tmp_path / result["log"]).exists()
    assert training.losses == pytest.approx(alone(), rel=1e-5, abs=1e-7)


def test_dry_run_tests_the_script_with_sbatch(slurm: Cluster, tmp_path: Path) -> None:
    output = polarcast(slurm, tmp_path, "submit", "--cluster=test", "--dry-run", "--", "train", "demo")
    assert "srun --kill-on-bad-exit=1" in output
    assert "to start at" in output
    (tmp_path / "mine.yaml").write_text("partition: nowhere")
    with pytest.raises(RuntimeError, match="invalid partition"):
        polarcast(slurm, tmp_path, "submit", "--cluster=mine.yaml", "--dry-run", "--", "train", "demo")


def test_array_trains_one_seed_per_element_and_dependent_job_follows(
    slurm: Cluster, shards: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "one.yaml").write_text("nodes: 1\ncpus_per_task: 1\ntime: '00:10:00'")
    train = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS, "train.steps=4", "seed={task}"]
    output = polarcast(slurm, tmp_path, "submit", "--cluster=one.yaml", "--name=seeds", "--array=3-4", "--", *train)
    array = output.split()[1]
    evaluate = ["evaluate", "runs/seeds-4", "--json"]
    output = polarcast(
        slurm, tmp_path, "submit", "--cluster=one.yaml", "--name=score", f"--after={array}", "--", *evaluate
    )
    slurm.wait_for(int(output.split()[1]), "COMPLETED", TRAIN_SECONDS)
    for seed in (3, 4):
        run = tmp_path / "runs" / f"seeds-{seed}"
        assert f"seed: {seed}" in (run / "config.yaml").read_text()
        assert (run / "model.safetensors").exists()
    assert (tmp_path / "runs" / "seeds-4" / "scores.parquet").exists()


_OF_PROCESSES = ("SLURM_PROCID=", "SLURM_LOCALID=", "CUDA_VISIBLE_DEVICES=")


def test_each_process_sees_the_gpus_of_its_node(slurm: Cluster, tmp_path: Path) -> None:
    """The GPUs of the test cluster are ordinary device files."""
    (tmp_path / "fake.yaml").write_text(
        "nodes: 2\ngpus_per_node: 2\ncpus_per_task: 1\nsetup: ['srun env > environments.txt']"
    )
    job = int(polarcast(slurm, tmp_path, "submit", "--cluster=fake.yaml", "--name=d", "--", "doctor").split()[1])
    deadline = time.monotonic() + 60
    environments: list[str] = []
    # srun forwards the lines of four processes as they come.
    while any(sum(line.startswith(name) for line in environments) < 4 for name in _OF_PROCESSES):
        assert time.monotonic() < deadline, environments
        time.sleep(0.2)
        if (tmp_path / "environments.txt").exists():
            environments = (tmp_path / "environments.txt").read_text().splitlines()
    assert environments.count("CUDA_VISIBLE_DEVICES=0,1") == 4
    assert sorted(line for line in environments if line.startswith("SLURM_LOCALID=")) == [
        f"SLURM_LOCALID={i}" for i in (0, 0, 1, 1)
    ]
    slurm.run("scancel", job)


def test_doctor_compares_the_nodes_of_a_job(slurm: Cluster, tmp_path: Path) -> None:
    output = slurm.run(
        "srun", "--nodes=2", "--ntasks-per-node=1", f"--chdir={tmp_path}", "polarcast", "doctor", seconds=60
    )
    assert "2 processes on n1, n2, with the same package versions" in output
    assert "GB/s for 16 MiB" in output


def test_error_names_the_node_without_shards(slurm: Cluster, shards: Manifest, tmp_path: Path) -> None:
    """The folder exists on all nodes, but another file system is mounted over it on one of them."""
    verb = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS]
    slurm.run_on("n2", "mount", "-t", "tmpfs", "none", shards.folder)
    try:
        job = int(polarcast(slurm, tmp_path, "submit", "--cluster=test", "--name=train", "--", *verb).split()[1])
        slurm.wait_for(job, "FAILED", TRAIN_SECONDS)
    finally:
        slurm.run_on("n2", "umount", shards.folder)
    output = (tmp_path / f"train-{job}.log").read_text()
    assert "(on n2 only)" in output
    assert str(shards.folder) in output
