"""Fine-tuning of a suite by leave-one-event-out: what each event is scored by, resumed work, one-line refusals."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import only_test
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.executor import CellJob
from polarcast.hpc.bench.finetune import finetune, merged_records, tuned_config
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.run import Tables
from polarcast.hpc.bench.worker import run_cell
from polarcast.hpc.config.load import digest_of_weights
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support.small_suite import run_suite_into

TRAIN = "train: {steps: 20, validate_every: 10, global_batch: 2, micro_batch: 2, threads: 1, warmup_steps: 10}"
NET = f"{{model: {{name: unet, widths: [4, 8]}}, match_params: false, {TRAIN}}}"
SUITE = f"""
name: small
data: {{synth: {{events: 8, frames: 2, size: 32, preset: tiny, seed: 5}}, split: 0.5/0.25/0.25}}
arms: [dualpol]
models:
  mean:
    label: mean
    base: [net, wide]
    set: {{model: {{name: model_mean}}, match_params: false, train: {{threads: 1}}}}
  net: {{label: net, arms: [dualpol, placebo], set: {NET}}}
  wide: {{label: wide, set: {NET.replace("[4, 8]", "[6, 8]")}}}
  unused: {{label: unused, set: {{model: {{name: power_law}}}}}}
  fitted: {{label: fitted, set: {{model: {{name: power_law, coefficients: fitted}}}}}}
tables:
  main: {{title: Main, metrics: [rmse], models: [mean, net, fitted], arms: [dualpol, placebo], versus: fitted}}
"""


def run_here(jobs: Sequence[CellJob], workers: int, board: ProgressBoard, watch: object = None) -> None:
    """Run cells in this process: processes of their own take most of the time."""
    for job in jobs:
        run_cell(job.folder)


def tuned(path: Path, archive: Path, *overrides: str, **options: Path | str) -> tuple[Tables, Path]:
    console = stderr()
    console.quiet = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
        return finetune(path, archive, ProgressBoard(console), overrides=overrides, workers=1, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("suite")
    (root / "small.yaml").write_text(SUITE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.run.run_processes", run_here)
        run_suite_into(root / "out", root / "small.yaml")
    return root / "out"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive of three other storms."""
    root = tmp_path_factory.mktemp("archive") / "real"
    write_archive(root, 3, size=32, seed=77, preset="tiny", frames=3)
    return root


@pytest.fixture(scope="module")
def results(suite: Path, archive: Path) -> tuple[Tables, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.finetune.run_processes", run_here)
        return tuned(suite, archive, "train.steps=4")


def runs_of(out: Path, start: str) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted((out / "cells").glob(f"{start}-s0-*"))]


def shards_of(run: RunFolder) -> Manifest:
    return read_manifest(run.config().data.shards)


def test_tables_say_how_their_scores_came_about(results: tuple[Tables, Path]) -> None:
    tables, out = results
    table = tables["main"]
    assert out.parts[-2:] == ("finetuned", "real")
    assert table.title == "Main; fine-tuned on real, leave one event out"
    for part in (
        "each of 3 groups of events is scored by runs that were fine-tuned on the others",
        "train for 4 steps at a learning rate of 0.0004",
        "other models are fitted anew",
        "no groups were left to validate on",
        "intervals over 3 groups are wide, or can't be given",
    ):
        assert part in table.note
    assert {(r.model, r.arm, r.events) for r in table.records if not r.is_comparison} == {
        ("mean", "dualpol", 3), ("net", "dualpol", 3), ("net", "placebo", 3), ("fitted", "dualpol", 3),
    }  # fmt: skip
    assert not list((out / "cells").glob("unused-*"))


@pytest.mark.parametrize("name", ["net-dualpol", "fitted-dualpol", "mean-dualpol"])
def test_each_event_is_scored_by_the_run_that_did_not_see_it(
    results: tuple[Tables, Path], tmp_path: Path, name: str
) -> None:
    merged = read_records(results[1] / "scores" / f"{name}-s0.parquet")
    left_out = set()
    for run in runs_of(results[1], name):
        fold = shards_of(run)
        [event] = fold.splits["test"]
        assert event not in (*fold.splits["train"], *fold.splits["validation"])
        left_out.add(event)
        every = evaluate(run, only_test(fold), Output(tmp_path / "all.parquet", tmp_path / "all.npz"))
        for family, sums in merged.sums.items():
            at = int(np.flatnonzero(merged.events == event)[0])
            expected = every.sums[family][every.events == event][0]
            np.testing.assert_allclose(sums[at], expected, rtol=1e-6, err_msg=family)
    assert left_out == set(merged.events.tolist())
    assert len(left_out) == len(runs_of(results[1], name)) == 3


def test_networks_start_from_the_weights_of_the_suite_and_laws_are_fitted(
    suite: Path, results: tuple[Tables, Path]
) -> None:
    files = SuiteFolder(suite, saved_suite(suite).data)
    of_suite = {
        f"{cell.model}-{cell.arm}": files.cell(cell, read_manifest(files.shards)).path
        for cell in cells_of(saved_suite(suite), files.shards)
    }
    for name in ("net-dualpol", "net-placebo", "wide-dualpol"):
        for run in runs_of(results[1], name):
            start = run.config().start
            assert start is not None
            assert start.weights == digest_of_weights(of_suite[name])
            assert (run.config().train.steps, run.config().train.warmup_steps) == (4, 2)
    digests = {digest_of_weights(run.path) for run in runs_of(results[1], "fitted-dualpol")}
    assert len(digests | {digest_of_weights(of_suite["fitted-dualpol"])}) == 4
    assert [run.config().start for run in runs_of(results[1], "fitted-dualpol")] == [None] * 3
    for run in runs_of(results[1], "mean-dualpol"):
        bases = [RunFolder(Path(base.run)) for base in run.config().bases]
        assert [base.path.name.partition("-")[0] for base in bases] == ["net", "wide"]
        assert {shards_of(base).digest() for base in bases} == {shards_of(run).digest()}


def test_complete_runs_are_not_repeated(suite: Path, archive: Path, results: tuple[Tables, Path]) -> None:
    runs = [run for name in ("net-dualpol", "fitted-dualpol") for run in runs_of(results[1], name)]
    runs[0].output.scores.unlink()
    before = {run.path: run.weights_file.stat().st_mtime_ns for run in runs}
    again, out = tuned(suite, archive, "train.steps=4")
    assert {run.path: run.weights_file.stat().st_mtime_ns for run in runs} == before
    values = [[record.value for record in tables["main"].records] for tables in (results[0], again)]
    assert values[0] == values[1]
    assert out == results[1]


def test_defaults_are_a_tenth_of_the_run(suite: Path, results: tuple[Tables, Path]) -> None:
    files = SuiteFolder(suite, saved_suite(suite).data)
    manifest = read_manifest(files.shards)
    run = next(files.cell(cell, manifest) for cell in cells_of(saved_suite(suite), files.shards) if cell.model == "net")
    fold = shards_of(runs_of(results[1], "net-dualpol")[0])
    train = tuned_config(run, fold).train
    assert (train.steps, train.warmup_steps, train.validate_every) == (2, 1, 1)
    assert train.learning_rate == pytest.approx(4e-4)
    own = tuned_config(run, fold, ["train.learning_rate=0.5", "train.validate_every=7", "data.flip_rotate=true"])
    assert (own.train.learning_rate, own.train.validate_every, own.data.flip_rotate) == (0.5, 7, True)
    with pytest.raises(BadInput, match=r"train\.steps"):
        tuned_config(run, fold, ["train.steps=many"])


def test_refusals(
    suite: Path, archive: Path, tmp_path: Path, polarcast_here: Callable[..., tuple[int, str, str]]
) -> None:
    def said(*words: object) -> str:
        code, _, error = polarcast_here("finetune", suite, "--out", tmp_path / "out", *words)
        *_, last = error.strip().splitlines()  # progress comes before
        assert (code, error.count("polarcast: "), last.startswith("polarcast: ")) == (2, 1, True), error
        return last

    assert "arm: is that of the suite's run" in said("--archive", archive, "arm=radar")
    assert "no such folder" in said("--archive", tmp_path / "none")
    table = tmp_path / "groups.csv"
    table.write_text("event,group\n" + "".join(f"{event},storm\n" for event in open_archive(archive).frames))
    assert "none is left to train on" in said("--archive", archive, "--groups", table)
    own = next(suite.glob("data-*/archive"))
    assert "shares an event with the data of the suite" in said("--archive", own)


def test_records_of_one_event_do_not_merge(results: tuple[Tables, Path]) -> None:
    [first, second, _] = [run.output.scores for run in runs_of(results[1], "net-dualpol")]
    assert len(merged_records([first, second]).events) == 2
    with pytest.raises(BadInput, match="is in two records"):
        merged_records([first, second, first])
