"""slurm/bench.sbatch as a user submits it."""

import json
from pathlib import Path

import pytest
from slurm_cluster.cluster import Cluster

from polarcast.data.archive import Archive

SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "bench.sbatch"
SUITE = """
tables:
  table_8_1:
    title: Table 8.1
    models:
      fitted: {label: fitted, set: {model: {name: power_law, coefficients: fitted}}}
    metrics: [rmse]
"""


@pytest.mark.slurm
def test_a_suite_leaves_its_tables(slurm: Cluster, archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SUITE)
    split = ["--split", "0.5/0.25/0.25"]
    job = slurm.submit(SCRIPT, "small.yaml", "--archive", archive.root, *split, chdir=tmp_path)
    slurm.wait_for(job, "COMPLETED", 120)
    table = json.loads((tmp_path / "runs" / "small" / "tables" / "table_8_1.json").read_text())
    assert [r["arm"] for r in table["records"]] == ["radar", "dualpol", "difference"]
    assert "Table 8.1" in (tmp_path / f"bench-{job}.log").read_text()
