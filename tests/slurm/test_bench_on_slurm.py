"""slurm/bench.sbatch on a real cluster."""

import json
import time
from pathlib import Path

import pytest

from polarcast.data.archive import Archive
from tests.support.slurm_cluster.cluster import Cluster

SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "bench.sbatch"
SUITE = """
models:
  fitted: {label: fitted, set: {model: {name: power_law, coefficients: fitted}}}
tables:
  table_8_1:
    title: Table 8.1
    metrics: [rmse]
"""


TRAINED = """
data:
  synth: {events: 8, frames: 2, size: 32, preset: tiny, seed: 1}
  split: 0.5/0.25/0.25
models:
  unet: {label: U-Net, set: {model: {widths: [4, 8]}, match_params: false,
         train: {steps: 500, validate_every: 500, global_batch: 4, log_every: 1}}}
tables:
  table_8_1:
    title: Table 8.1
    metrics: [rmse]
"""


@pytest.mark.slurm
def test_signaled_suite_saves_its_cells_and_resumes(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "trained.yaml").write_text(TRAINED)
    job = slurm.submit(SCRIPT, "trained.yaml", "--workers=1", chdir=tmp_path)
    deadline = time.monotonic() + 120
    while not any('"step": 20' in log.read_text() for log in tmp_path.glob("runs/trained/cells/*/log.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    slurm.run("scancel", "--signal=USR2", "--batch", job)
    slurm.wait_for(job, "COMPLETED", 180)
    logs = [log.read_text() for log in tmp_path.glob("runs/trained/cells/*/log.jsonl")]
    [stopped] = [json.loads(line) for log in logs for line in log.splitlines() if '"stopped"' in line]
    starts = [json.loads(line)["step"] for log in logs for line in log.splitlines() if '"start"' in line]
    assert sorted(starts) == [0, 0, stopped["step"]]
    assert stopped["step"] >= 20
    assert (tmp_path / "runs" / "trained" / "tables" / "table_8_1.json").exists()


@pytest.mark.slurm
def test_suite_writes_its_tables(slurm: Cluster, archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SUITE)
    split = ["--split", "0.5/0.25/0.25"]
    job = slurm.submit(SCRIPT, "small.yaml", "--archive", archive.root, *split, chdir=tmp_path)
    slurm.wait_for(job, "COMPLETED", 120)
    table = json.loads((tmp_path / "runs" / "small" / "tables" / "table_8_1.json").read_text())
    assert [r["arm"] for r in table["records"]] == ["radar", "dualpol", "difference"]
    assert "Table 8.1" in (tmp_path / f"bench-{job}.log").read_text()
