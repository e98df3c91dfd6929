"""What a suite takes on a cluster, and what can't fit it."""

from pathlib import Path
from typing import Any

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.cluster.estimate import SuiteEstimate, check_fits, estimate_suite
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.training.estimate import estimate as estimate_run

SUITE = """
name: small
seeds: [0, 1, 2]
data: {synth: {events: 40, frames: 4, size: 64, preset: tiny}, split: 0.6/0.2/0.2}
models:
  fitted: {label: fitted, set: {model: {name: power_law, coefficients: fitted}}}
  unet: {label: U-Net, set: {train: {steps: 1000, global_batch: 12, micro_batch: 12, nodes: NODES}}}
  tuned: {label: tuned, start_from: unet, set: {train: {steps: 500, global_batch: 12}}}
tables: {main: {title: Main, metrics: [rmse]}}
"""
GPUS = {"gpus_per_node": 4, "tasks_per_node": None, "memory": "240G", "cpus_per_task": 8}
CPUS = {"gpus_per_node": 0, "tasks_per_node": None, "memory": "8G", "cpus_per_task": 8}


def estimated(folder: Path, limits: dict[str, Any], nodes: int = 0, **options: float) -> SuiteEstimate:
    (folder / "small.yaml").write_text(SUITE.replace("NODES", str(nodes)))
    suite = load_suite(str(folder / "small.yaml"))
    out = SuiteFolder(folder / "out", suite.data)
    return estimate_suite(suite, out, cells_of(suite, out.shards), limits, **options)


def test_gpu_hours_are_those_of_the_runs(tmp_path: Path) -> None:
    found = estimated(tmp_path, GPUS, tflops=40)
    config = load_config("demo", ["train.steps=1000", "train.global_batch=12", "arm=dualpol"])
    alone = estimate_run(resolve(config), (64, 64), 72, 40)
    [row] = [row for row in found.rows if (row.model, row.arm) == ("unet", "dualpol")]
    assert (row.cells, row.processes) == (3, 1)
    assert row.hours == pytest.approx(alone["gpu_hours"])
    assert row.parameters == alone["counted"]["parameters"]
    assert found.process_hours == pytest.approx(sum(row.cells * row.hours for row in found.rows))
    assert found.chain_hours > row.hours, "the tuned net starts after it"
    assert not found.problems


def test_nodes_share_the_hours(tmp_path: Path) -> None:
    one, three = (estimated(tmp_path, GPUS, nodes) for nodes in (0, 3))
    hours = [next(row for row in found.rows if row.model == "unet") for found in (one, three)]
    assert (hours[1].nodes, hours[1].processes) == (3, 12)
    assert hours[1].hours == pytest.approx(hours[0].hours / 12)
    assert hours[1].memory_gib < hours[0].memory_gib, "a smaller share of the batch"


@pytest.mark.parametrize(
    ("limits", "nodes", "options", "problem"),
    [
        (GPUS, 0, {"gpu_gib": 0.01}, r"U-Net, radar needs .* GiB of a GPU, which has 0\.01"),
        (GPUS, 2, {}, "12 samples can't be divided among 8 processes"),
        ({**CPUS, "memory": "1G"}, 0, {}, "GiB of a node, which has 1"),
        ({**CPUS, "memory": "900M"}, 0, {}, r"GiB of a node, which has 0\.879"),
    ],
)
def test_what_can_not_fit_is_refused(
    tmp_path: Path, limits: dict[str, Any], nodes: int, options: dict[str, float], problem: str
) -> None:
    found = estimated(tmp_path, limits, nodes, **options)
    with pytest.raises(BadInput, match=problem) as raised:
        check_fits(found, "mine.yaml")
    assert raised.value.fix


def test_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = estimated(tmp_path, CPUS)
    assert not found.problems
    frames, fields = 40 * 4, 1 + 3 * 4
    assert found.shards_gib == pytest.approx(2 * frames * fields * 64 * 64 * 2 / 2**30, rel=0.5)
    assert 0 < found.runs_gib < found.free_gib
    monkeypatch.setattr("polarcast.hpc.bench.cluster.estimate._free_gib", lambda _: 0.9 * found.shards_gib)
    with pytest.raises(BadInput, match=r"disk: .* GiB are needed, .* GiB are free"):
        check_fits(estimated(tmp_path, CPUS), "x")


@pytest.mark.parametrize("limit", ["120G", "122880M", "122880", "0"])
def test_memory_of_slurm_is_understood(tmp_path: Path, limit: str) -> None:
    assert not estimated(tmp_path, {**CPUS, "memory": limit}).problems


def test_verb_estimates_suites(polarcast_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = polarcast_here("estimate", "demo-nowcast", "--cluster", "cpu", "--json")
    assert code == 0
    assert '"problems": []' in out
    code, out, _ = polarcast_here("estimate", "demo-nowcast", "--gpu-gib", "0.02")
    assert code == 1
    assert "does not fit: FURENet" in out
    assert not list(tmp_path.iterdir())
