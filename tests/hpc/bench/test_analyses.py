"""Analyses of a suite: made once after its cells, made again after a change only, and shown in the report."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench import run as running
from polarcast.hpc.bench.analyses import RECORD, check_plans, sections_of
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.suite import Suite, load_suite
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support.small_suite import run_small_suite

SUITE = """
data: {synth: {events: 16, frames: 2, size: 32, preset: tiny, seed: 6}, split: 0.4/0.1/0.5}
models:
  fitted: {label: fitted law, set: {model: {name: power_law, coefficients: fitted}}}
  published: {label: published law, set: {model: {name: power_law, coefficients: published}}}
tables: {main: {title: Scores, metrics: [rmse]}}
explain: {models: [fitted], scores: [rmse], windows: 6, background: 2}
robustness: {models: [published], scores: [rmse], perturbations: {zdr_bias: [-0.5, 0.5]}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small_suite(tmp_path_factory.mktemp("analyses"), SUITE)


def run_again(suite: Suite, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = stderr()
    console.quiet = True
    monkeypatch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
    running.run_suite(suite, SuiteFolder(folder, suite.data), 1, ProgressBoard(console))


def made(folder: Path) -> dict[str, int]:
    """When each analysis was made."""
    names = ("explain/fitted-dualpol/explain.json", "robustness/robustness.json")
    return {name: (folder / name).stat().st_mtime_ns for name in names}


def test_the_report_has_a_section_for_each(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for name, title in (
        ("explain-fitted", "Shapley values of fitted law, dual-pol"),
        ("robustness", "Robustness: scores and gain under perturbed input"),
    ):
        assert f'<li><a href="#{name}">{title}</a></li>' in page
        section = page.split(f'<h2 id="{name}">{title}</h2>')[1].split("<h2")[0]
        assert "<table>" in section
        assert "data:image/png;base64," in section
    assert "zdr 1 km" in page
    explained = json.loads((finished / "explain/fitted-dualpol/explain.json").read_text())
    assert explained["arm"] == "dualpol"
    assert explained["windows"] == 6


def test_they_are_made_again_after_a_change_only(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, before = saved_suite(finished), made(finished)
    run_again(suite, finished, monkeypatch)
    assert made(finished) == before
    assert suite.explain is not None
    other = replace(suite, explain=replace(suite.explain, background=3))
    run_again(other, finished, monkeypatch)
    after = made(finished)
    assert after["explain/fitted-dualpol/explain.json"] > before["explain/fitted-dualpol/explain.json"]
    assert after["robustness/robustness.json"] == before["robustness/robustness.json"]


def test_an_analysis_of_other_runs_or_settings_is_not_shown(finished: Path) -> None:
    suite = saved_suite(finished)
    folder = SuiteFolder(finished, suite.data)
    manifest, cells = read_manifest(folder.shards), cells_of(suite, folder.shards)
    assert [section.name for section in sections_of(suite, folder, cells, manifest)] == ["explain-fitted", "robustness"]
    assert suite.explain is not None
    other = replace(suite, explain=replace(suite.explain, windows=7))
    assert [section.name for section in sections_of(other, folder, cells, manifest)] == ["robustness"]
    (finished / "robustness" / RECORD).write_text("{")
    assert [section.name for section in sections_of(suite, folder, cells, manifest)] == ["explain-fitted"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("explain: {models: [fitted], scores: [nonsense]}", "explain.scores: unknown metric 'nonsense'"),
        ("explain: {models: [], scores: [rmse]}", "explain.models: is empty"),
        ("explain: {models: [fitted], scores: [rmse], arm: placebo}", "fitted has no arm 'placebo'"),
        ("explain: {models: [fitted], scores: [rmse], imputation: mean}", "unknown imputation 'mean'"),
        ("explain: {models: [fitted], scores: [rmse], windows: 1}", "1 is out of range"),
        ("robustness: {models: [fitted], scores: [rmse], perturbations: {zdr_bias: [9]}}", "zdr_bias"),
        ("robustness: {models: [fitted], scores: [nonsense]}", "unknown metric 'nonsense'"),
    ],
)
def test_a_wrong_plan_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    content = SUITE.split("explain:")[0] + text + "\n"
    (tmp_path / "wrong.yaml").write_text(content, encoding="utf-8")
    suite = load_suite(str(tmp_path / "wrong.yaml"))
    with pytest.raises(BadInput) as error:
        check_plans(suite, Path("wrong.yaml"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_plan_names_models_of_the_suite(tmp_path: Path) -> None:
    content = SUITE.split("explain:")[0] + "explain: {models: [nosuch], scores: [rmse]}\n"
    (tmp_path / "wrong.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(BadInput, match="unknown model 'nosuch'"):
        load_suite(str(tmp_path / "wrong.yaml"))
