"""Models of a suite that start from the run of another model of the same arm and seed."""

import json
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.cells import SuiteFolder, cells_of, check_cells
from polarcast.hpc.bench.checks import known_of
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.suite import Suite, load_suite
from polarcast.hpc.config.load import digest_of_weights
from polarcast.hpc.runs.folder import RunFolder
from tests.support.small_suite import run_suite_into

SUITE = """
name: tuned
data: {synth: {events: 8, frames: 2, size: 32, preset: tiny, seed: 5}, split: 0.5/0.25/0.25}
seeds: [0, 1]
models:
  tuned: {label: tuned, start_from: net, arms: [radar], set: SET}
  net: {label: net, arms: [radar], set: SET}
tables:
  main: {title: Main, metrics: [rmse], versus: net}
"""
SET = (
    "{model: {name: unet, widths: [4, 8]}, match_params: false, "
    "train: {steps: 2, validate_every: 2, global_batch: 2, micro_batch: 2, threads: 1}}"
)


def suite_of(folder: Path, text: str) -> Suite:
    (folder / "suite.yaml").write_text(text.replace("SET", SET), encoding="utf-8")
    return load_suite(str(folder / "suite.yaml"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("suite")
    suite_of(root, SUITE)
    run_suite_into(root / "out", root / "suite.yaml")  # in processes of their own, in order
    return root / "out"


def runs_of(folder: Path) -> dict[tuple[str, int], RunFolder]:
    suite = saved_suite(folder)
    files = SuiteFolder(folder, suite.data)
    manifest = read_manifest(files.shards)
    return {(cell.model, cell.seed): files.cell(cell, manifest) for cell in cells_of(suite, files.shards)}


def test_runs_follow_those_they_start_from(tmp_path: Path) -> None:
    cells = cells_of(suite_of(tmp_path, SUITE), tmp_path / "shards")
    assert [(cell.model, cell.seed) for cell in cells] == [("net", 0), ("tuned", 0), ("net", 1), ("tuned", 1)]
    assert [cell.start for cell in cells] == [None, cells[0], None, cells[2]]


def test_each_seed_starts_from_the_run_of_its_seed(finished: Path) -> None:
    runs = runs_of(finished)
    for seed in (0, 1):
        start = runs["tuned", seed].config().start
        assert start is not None
        assert start.weights == digest_of_weights(runs["net", seed].path)
        assert Path(start.run) == runs["net", seed].path.resolve()
        cards = [json.loads((runs[model, seed].path / "card.json").read_text()) for model in ("net", "tuned")]
        assert cards[1]["run_flops"] == 2 * cards[0]["run_flops"]
        assert cards[1]["started_from"]["weights"] == start.weights


def test_finished_suite_is_not_run_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for run in runs_of(finished).values() for path in run.path.iterdir()}
    (next(iter(runs_of(finished).values())).path / "scores.parquet").unlink()
    (runs_of(finished)["tuned", 1].path / "scores.parquet").unlink()
    run_suite_into(finished, finished.parent / "suite.yaml")
    again = {path for path in before if path.stat().st_mtime_ns != before[path]}
    assert {path.name for path in again} & {"model.safetensors", "config.yaml", "checkpoints"} == set()


def test_folder_of_any_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is relative to the working folder; the saved suite does not depend on it."""
    monkeypatch.chdir(finished)
    run = runs_of(finished)["net", 0].path
    one = SET.replace("train: {", f"train: {{start_from: {run.relative_to(finished)}, ")
    text = SUITE.replace("start_from: net, ", "").replace("set: SET}\n  net", f"set: {one}}}\n  net")
    suite = suite_of(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    starts = {cell.model: cell.config.start for cell in cells_of(suite, tmp_path / "shards")}
    assert starts["net"] is None
    assert starts["tuned"] is not None
    assert (starts["tuned"].run, starts["tuned"].weights) == (str(run.resolve()), digest_of_weights(run))
    with pytest.raises(BadInput, match="exclude each other"):
        suite_of(tmp_path, text.replace("label: tuned, ", "label: tuned, start_from: net, ").replace(
            f"start_from: {run.relative_to(finished)}", f"start_from: {run}"))  # fmt: skip
    with pytest.raises(BadInput, match=r"models.tuned: .*not a run"):
        suite_of(tmp_path, text)


def test_unfit_names_and_nets(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown model 'missing'"):
        suite_of(tmp_path, SUITE.replace("start_from: net", "start_from: missing"))
    cycle = suite_of(tmp_path, SUITE.replace("{label: net, ", "{label: net, start_from: tuned, "))
    with pytest.raises(BadInput, match="tuned builds on net builds on tuned"):
        cells_of(cycle, tmp_path)
    wider = SUITE.replace("SET}\n  net", "SET, seeds: [0]}\n  net").replace("SET", SET.replace("[4, 8]", "[8, 8]"), 1)
    suite = suite_of(tmp_path, wider)
    known = known_of(read_manifest(SuiteFolder(finished, saved_suite(finished).data).shards))
    with pytest.raises(BadInput, match=r"models, tuned: model.widths: the run to start from has \[4, 8\], this run"):
        check_cells(suite, cells_of(suite, tmp_path), known)
