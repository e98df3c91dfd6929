"""Sweeps on a real Slurm: Ray on the nodes of an allocation, and an array of workers."""

import json
import time
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from tests.support.slurm_cluster.cluster import Cluster

SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "sweep.sbatch"
SPACE = """
preset: demo
set:
  arm: radar
  match_params: false
  model: {{widths: [4, 8]}}
  train: {{steps: {steps}, validate_every: 8, checkpoint_every: 4, global_batch: 4, warmup_steps: 2, threads: 1}}
  data: {{shards: {shards}}}
objective: validation/rmse
search: random
early_stopping: false
trials: 3
parameters:
  train.learning_rate: {{log_uniform: [1.0e-3, 1.0e-2]}}
"""
SECONDS = 240


def space_file(folder: Path, shards: Manifest, steps: int = 16) -> str:
    (folder / "small.yaml").write_text(SPACE.format(shards=shards.folder, steps=steps))
    return "small.yaml"


def read_result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slurm
def test_ray_spans_the_nodes_of_an_allocation(slurm: Cluster, shards: Manifest, tmp_path: Path) -> None:
    space = space_file(tmp_path, shards)
    submit = f"polarcast submit --cluster test --nodes 2 --name swept --json -- sweep {space} --out found"
    output = slurm.run("bash", "-c", f"cd {tmp_path} && {submit}")
    slurm.wait_for(int(json.loads(output.splitlines()[-1])["job"]), "COMPLETED", SECONDS)
    found = read_result(tmp_path / "found")
    assert found["states"] == {"complete": 3, "stopped": 0, "replaced": 0, "failed": 0, "running": 0}
    assert (tmp_path / "found" / "best.yaml").is_file()
    hosts = {json.loads(path.read_text())["host"] for path in tmp_path.glob("found/trials/*/radar/provenance.json")}
    assert hosts == {"n1", "n2"}


@pytest.mark.slurm
def test_array_workers_share_a_sweep_and_survive_a_signal(slurm: Cluster, shards: Manifest, tmp_path: Path) -> None:
    space = space_file(tmp_path, shards, steps=200)
    job = slurm.submit(SCRIPT, space, "--out", "found", chdir=tmp_path, options=("--array=0-1", "--cpus-per-task=1"))
    deadline = time.monotonic() + SECONDS
    while not list(tmp_path.glob("found/trials/*/radar/checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    slurm.run("scancel", "--signal=USR2", "--batch", f"{job}_0")
    deadline = time.monotonic() + SECONDS
    while set(states := slurm.run("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job).split()) != {
        "COMPLETED"
    }:
        assert time.monotonic() < deadline, states
        assert not {"FAILED", "CANCELLED", "TIMEOUT"} & set(states), states
        time.sleep(0.5)
    found = read_result(tmp_path / "found")
    assert found["states"] == {"complete": 3, "stopped": 0, "replaced": 0, "failed": 0, "running": 0}
