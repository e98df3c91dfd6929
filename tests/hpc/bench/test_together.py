"""Cells of a suite that are trained together: same folders and tables; a failure stays with its cell."""

import json
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.executor import CellJob, in_one_process
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.bench.unfinished import is_scored
from polarcast.hpc.bench.worker import ERROR, read_progress, run_together
from polarcast.hpc.config.load import load_config
from polarcast.hpc.runs.folder import RunFolder
from tests.support import warm
from tests.support.warm import polarcast

SUITE = """
arms: [dualpol]
seeds: [0, 1]
data:
  synth: {events: 8, frames: 3, size: 32, preset: tiny, seed: 1}
  split: 0.5/0.25/0.25
models:
  fitted: {label: fitted, set: {model: {name: power_law, coefficients: fitted}}}
  autoencoder:
    label: autoencoder
    set:
      match_params: false
      model: {name: autoencoder, widths: [4, 8]}
      train: {steps: 4, validate_every: 2, global_batch: 4, micro_batch: 4}
  latent:
    label: latent diffusion
    base: autoencoder
    set:
      match_params: false
      model: {name: latent_diffusion, widths: [4, 8], steps: 2}
      train: {steps: 2, validate_every: 2, global_batch: 4, micro_batch: 4, validate_windows: 2}
tables:
  all:
    title: All
    metrics: [rmse]
"""


@pytest.mark.journey
def test_suite_trained_together_has_the_cells_of_a_separate_one(tmp_path: Path) -> None:
    """How a cell is trained is not part of it: a run without the option finds it complete."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    command = polarcast("bench", tmp_path / "suite.yaml", "--out", tmp_path / "out", "--together")
    done = warm.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "tables" / "all.csv").is_file()
    suite = load_suite(str(tmp_path / "suite.yaml"))
    folder = SuiteFolder(tmp_path / "out", suite.data)
    manifest = read_manifest(folder.shards)
    runs = [folder.cell(cell, manifest) for cell in cells_of(suite, folder.shards)]
    assert all(is_scored(run.output) for run in runs)
    starts = [r for run in runs for r in run.records() if r["event"] == "start"]
    assert [start["together"] for start in starts] == [2] * 4


def run_of(shards: Manifest, folder: Path, seed: int) -> RunFolder:
    run = RunFolder(folder / f"unet-s{seed}", trust=True)
    settings = ["train.steps=2", "train.validate_every=2", "train.global_batch=4", "train.threads=1"]
    small = ["model.widths=[4,8]", "match_params=false", "train.engine=ddp", *settings]
    run.start(load_config("demo", [f"data.shards={shards.folder}", f"seed={seed}", *small]))
    return run


def test_a_cell_that_fails_is_named_and_the_others_are_scored(
    shards: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run_of(shards, tmp_path, seed) for seed in range(3)]
    runs[1].provenance_file.write_text(json.dumps({"data": {"digest": "f" * 64}}))
    with pytest.raises(Exception, match="other data"):
        run_together([run.path for run in runs])
    assert [run.output.scores.is_file() for run in runs] == [True, False, True]
    assert [(run.path / ERROR).is_file() for run in runs] == [False, True, False]
    assert "unet-s1: " in capsys.readouterr().err
    assert read_progress(runs[0].path)[0] == "evaluate"


def test_cells_whose_base_failed_leave_their_process() -> None:
    bases = [Path("base-s0"), Path("base-s1")]
    job = in_one_process([CellJob(Path(f"cell-s{seed}"), 2.0, (base,)) for seed, base in enumerate(bases)])
    assert job.folders == (Path("cell-s0"), Path("cell-s1"))
    assert job.without_those_after(set()) == job
    left = job.without_those_after({bases[0]})
    assert left is not None
    assert left.folders == (Path("cell-s1"),)
    assert job.without_those_after(set(bases)) is None
