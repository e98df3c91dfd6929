"""Analyses of a suite: made once after its cells, made again after a change only, and shown in the report."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench import run as running
from polarcast.hpc.bench.analyses import RECORD, check_plans, sections_of
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.robustness.result import read_robustness
from polarcast.hpc.bench.robustness.run import robustness_of
from polarcast.hpc.bench.robustness.spec import RobustnessSpec
from polarcast.hpc.bench.suite import Suite, load_suite
from polarcast.hpc.evaluation.shapley.result import read_explanation
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


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Draw fewer resamples for the 64 coalitions: no limits are looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DRAWS", "_FEWEST_DRAWS"):
            patch.setattr(f"polarcast.hpc.evaluation.shapley.intervals.{name}", 200)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small_suite(tmp_path_factory.mktemp("analyses"), SUITE)


def quiet() -> ProgressBoard:
    console = stderr()
    console.quiet = True
    return ProgressBoard(console)


def run_again(suite: Suite, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
    running.run_suite(suite, SuiteFolder(folder, suite.data), 1, quiet())


def made(folder: Path) -> dict[str, int]:
    """When each analysis was made."""
    names = ("explain/fitted-dualpol-marginal/explain.json", "robustness/robustness.json")
    return {name: (folder / name).stat().st_mtime_ns for name in names}


def test_the_report_has_a_section_for_each(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for name, title in (
        ("explain-fitted-marginal", "Shapley values of fitted law, dual-pol, marginal imputation"),
        ("robustness", "Robustness: scores and gain under perturbed input"),
    ):
        assert f'<li><a href="#{name}">{title}</a></li>' in page
        section = page.split(f'<h2 id="{name}">{title}</h2>')[1].split("<h2")[0]
        assert '<table class="data"' in section
        assert "data:image/png;base64," in section
    assert "zdr 1 km" in page
    explained = json.loads((finished / "explain/fitted-dualpol-marginal/explain.json").read_text())
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
    assert (
        after["explain/fitted-dualpol-marginal/explain.json"] > before["explain/fitted-dualpol-marginal/explain.json"]
    )
    assert after["robustness/robustness.json"] == before["robustness/robustness.json"]


def test_an_analysis_of_other_runs_or_settings_is_not_shown(finished: Path) -> None:
    suite = saved_suite(finished)
    folder = SuiteFolder(finished, suite.data)
    manifest, cells = read_manifest(folder.shards), cells_of(suite, folder.shards)
    assert [section.name for section in sections_of(suite, folder, cells, manifest)] == [
        "explain-fitted-marginal",
        "robustness",
    ]
    assert suite.explain is not None
    other = replace(suite, explain=replace(suite.explain, windows=7))
    assert [section.name for section in sections_of(other, folder, cells, manifest)] == ["robustness"]
    (finished / "robustness" / RECORD).write_text("{")
    assert [section.name for section in sections_of(suite, folder, cells, manifest)] == ["explain-fitted-marginal"]


@pytest.mark.parametrize("damage", ["{}", "5"])
def test_a_damaged_analysis_is_made_again(finished: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    suite = saved_suite(finished)
    for name in (*made(finished), f"robustness/{RECORD}"):
        (finished / name).write_text(damage)
    run_again(suite, finished, monkeypatch)
    assert read_explanation(finished / "explain/fitted-dualpol-marginal").windows == 6
    assert read_robustness(finished / "robustness").curves
    assert json.loads((finished / "robustness" / RECORD).read_text())["scores"] == ["rmse"]


def test_robustness_with_other_levels_does_not_stand_for_that_of_the_suite(finished: Path) -> None:
    suite = saved_suite(finished)
    folder = SuiteFolder(finished, suite.data)
    robustness_of(suite, folder, RobustnessSpec(["published"], ["rmse"], {"zdr_bias": [1]}), quiet())
    manifest, cells = read_manifest(folder.shards), cells_of(suite, folder.shards)
    assert [section.name for section in sections_of(suite, folder, cells, manifest)] == ["explain-fitted-marginal"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("explain: {models: [fitted], scores: [nonsense]}", "explain.scores: unknown metric 'nonsense'"),
        ("explain: {models: [fitted], scores: [rmse], arm: placebo}", "fitted has no arm 'placebo'"),
        ("explain: {models: [fitted], scores: [rmse], imputations: [mean]}", "unknown imputation 'mean'"),
        ("explain: {models: [fitted], scores: [rmse], windows: 1}", "explain.windows: 1 is out of range"),
        ("explain: {models: [fitted], scores: [rmse], players: times}", "explain.players: "),
        ("explain: {models: [fitted], scores: ['csi@threshold=11']}", "explain.scores: csi@threshold=11: no"),
        ("explain: {models: [encoder], scores: [rmse]}", "explain.models: encoder reads the observed rain"),
        ("robustness: {models: [fitted], scores: [rmse], perturbations: {zdr_bias: [9]}}", "zdr_bias"),
        ("robustness: {models: [fitted], scores: [nonsense]}", "robustness.scores: unknown metric 'nonsense'"),
        ("robustness: {models: [fitted], scores: [nb]}", "robustness.scores: nb has its best value inside its range"),
        ("robustness: {models: [encoder], scores: [rmse]}", "robustness.models: 'encoder' lacks an arm"),
    ],
)
def test_a_wrong_plan_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    sees_rain = "models:\n  encoder: {label: encoder, arms: [dualpol], set: {model: {name: autoencoder}}}"
    content = SUITE.split("explain:")[0].replace("models:", sees_rain) + text + "\n"
    (tmp_path / "wrong.yaml").write_text(content, encoding="utf-8")
    suite = load_suite(str(tmp_path / "wrong.yaml"))
    with pytest.raises(BadInput) as error:
        check_plans(suite, Path("wrong.yaml"), cells_of(suite, tmp_path / "shards"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("explain: {models: [nosuch], scores: [rmse]}", "unknown model 'nosuch'"),
        ("explain: {models: [], scores: [rmse]}", r"explain\.models: is empty"),
        ("explain: {models: [fitted, fitted], scores: [rmse]}", r"explain\.models: 'fitted' appears twice"),
        ("robustness: {models: []}", r"robustness\.models: is empty"),
        ("verdict: []", "verdict: is empty"),
        ("verdict: [main, main]", "verdict: 'main' appears twice"),
    ],
)
def test_names_are_those_of_the_suite_each_once(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong.yaml").write_text(SUITE.split("explain:")[0] + text + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        load_suite(str(tmp_path / "wrong.yaml"))
