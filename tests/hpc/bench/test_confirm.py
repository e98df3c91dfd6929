"""Confirmation of a suite's rows on new storms: nothing is trained, looks are counted, known events are refused."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polarcast.data.check.shared_events import shared_event
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import read_manifest
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.confirm import LOOKS, confirm, fresh_seed
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.run import Tables, run_suite
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.cli.bench import run as bench
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support import warm

SUITE = """
name: small
data: {synth: {events: 8, frames: 2, size: 32, preset: tiny, seed: 5}, split: 0.5/0.125/0.375}
models:
  published: {label: published, set: {model: {name: power_law, coefficients: published}}}
  fitted: {label: fitted, set: {model: {name: power_law, coefficients: fitted}}}
tables:
  main: {title: Main, models: [published, fitted], metrics: [rmse, nb], versus: fitted}
"""


@pytest.fixture(scope="module", autouse=True)
def without_figures() -> Iterator[None]:
    """Draw no figures in this process: they are not what is tested, and take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
        yield


@pytest.fixture
def board() -> ProgressBoard:
    console = stderr()
    console.quiet = True
    return ProgressBoard(console)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    (folder / "small.yaml").write_text(SUITE)
    suite = load_suite(str(folder / "small.yaml"))
    console = stderr()
    console.quiet = True
    run_suite(suite, SuiteFolder(folder / "out", suite.data), 1, ProgressBoard(console))
    return folder / "out"


@pytest.fixture
def suite(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "out")
    # Runs keep the absolute path of their shards, which scoring does not read.
    return tmp_path / "out"


def looks(out: Path) -> list[dict[str, object]]:
    return list(json.loads((out / LOOKS).read_text())["looks"])


def values(tables: Tables) -> dict[tuple[str, str, str], float | None]:
    return {(r.model, r.arm, r.metric): r.value for r in tables["main"].records}


def test_rows_are_scored_on_fresh_storms_and_looks_are_counted(suite: Path, board: ProgressBoard) -> None:
    tables, out = confirm(suite, ["fitted"], None, 1, board)
    seed = fresh_seed(5)
    assert out == suite / "confirm" / f"seed-{seed}"
    assert seed != 5
    assert {r.model for r in tables["main"].records} == {"fitted"}
    assert {r.events for r in tables["main"].records} == {3}
    assert "first look" in tables["main"].note
    assert f"preset tiny, seed {seed}" in tables["main"].note
    assert "first look" in (out / "tables" / "main.md").read_text()
    data = json.loads((out / LOOKS).read_text())["data"]
    assert (data["synth"]["seed"], data["synth"]["events"], data["synth"]["preset"]) == (seed, 3, "tiny")
    [look] = looks(out)
    assert look["models"] == ["fitted"]
    assert look["finished"]
    again, _ = confirm(suite, ["fitted"], None, 1, board)
    assert again["main"].records == tables["main"].records
    assert len(looks(out)) == 1
    both, _ = confirm(suite, None, None, 1, board)
    assert "look 2 of this archive" in both["main"].note
    assert [look["number"] for look in looks(out)] == [1, 2]
    assert values(both)["fitted", "radar", "rmse"] == values(tables)["fitted", "radar", "rmse"]
    assert ("published", "radar_vs", "rmse") in values(both)
    trained = read_manifest(SuiteFolder(suite, saved_suite(suite).data).shards)
    scored = read_manifest(next(out.glob("shards-*")))
    assert shared_event(scored, trained) == ""


def test_an_interrupted_look_is_resumed_and_stays_one(suite: Path, board: ProgressBoard) -> None:
    tables, out = confirm(suite, None, None, 1, board)
    kept, *lost = sorted((out / "scores").iterdir())
    before = kept.stat().st_mtime_ns
    for file in lost:
        file.unlink()
    again, _ = confirm(suite, None, None, 1, board)
    assert kept.stat().st_mtime_ns == before
    assert again["main"].records == tables["main"].records
    assert len(looks(out)) == 1


def test_a_held_back_archive_must_not_share_events(suite: Path, board: ProgressBoard, tmp_path: Path) -> None:
    write_archive(tmp_path / "known", 2, size=32, seed=5, preset="tiny", frames=2)
    with pytest.raises(BadInput, match=r"shares an event with the data .*: event 00. has a frame of event"):
        confirm(suite, None, tmp_path / "known", 1, board)
    assert not (suite / "confirm" / "known" / LOOKS).exists()
    write_archive(tmp_path / "new", 2, size=32, seed=77, preset="tiny", frames=2)
    tables, out = confirm(suite, None, tmp_path / "new", 1, board)
    assert out == suite / "confirm" / "new"
    assert "the held-back archive new" in tables["main"].note
    shutil.rmtree(tmp_path / "new")
    write_archive(tmp_path / "new", 2, size=32, seed=78, preset="tiny", frames=2)
    with pytest.raises(BadInput, match="another archive of this name"):
        confirm(suite, None, tmp_path / "new", 1, board)
    (out / LOOKS).write_text("{")
    with pytest.raises(BadInput, match="can't be counted"):
        confirm(suite, None, tmp_path / "new", 1, board)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--models", "nobody", "--confirm"], "nobody"), (["--models", "fitted"], "needs --confirm"),
     (["--confirm", "--split", "paper"], "does not go with --confirm"),
     (["--confirm", "--out", "nowhere"], "no finished suite")],
)  # fmt: skip
def test_wrong_options_are_one_line(finished: Path, tmp_path: Path, options: list[str], message: str) -> None:
    source = str(finished.parent / "small.yaml")
    out = [] if "--out" in options else ["--out", str(finished)]
    command = [sys.executable, "-m", "polarcast.hpc.cli", "bench", source, *out, *options]
    done = warm.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (finished / "confirm").exists()


def test_the_verb_confirms_a_finished_suite(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SUITE)
    bench(str(tmp_path / "small.yaml"), out=suite, confirm=True, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert Path(shown["folder"]).parent == suite / "confirm"
    [table] = shown["tables"].values()
    assert "first look" in table["note"]
    assert table["origin"].startswith("Runs:")
    assert any(sentence.startswith("published, radar vs fitted: ") for sentence in table["verdicts"])
    page = (Path(shown["folder"]) / "report.html").read_text()
    assert "<h3>Verdict</h3>" in page
    assert "Runs:" in page


def test_other_scores_of_the_same_runs_are_another_look(suite: Path, board: ProgressBoard) -> None:
    _, out = confirm(suite, None, None, 1, board)
    file = suite / "suite.yaml"
    file.write_text(file.read_text().replace("- nb\n", "- mae\n"))
    tables, _ = confirm(suite, None, None, 1, board)
    assert {r.metric for r in tables["main"].records} == {"rmse", "mae"}
    assert "look 2 of this archive" in tables["main"].note
    assert [look["number"] for look in looks(out)] == [1, 2]


def test_looks_are_neither_forgotten_nor_renamed(suite: Path, board: ProgressBoard, tmp_path: Path) -> None:
    write_archive(tmp_path / "new", 2, size=32, seed=77, preset="tiny", frames=2)
    _, out = confirm(suite, ["fitted"], tmp_path / "new", 1, board)
    shutil.copytree(tmp_path / "new", tmp_path / "newer")
    with pytest.raises(BadInput, match="was looked at as 'new' already"):
        confirm(suite, None, tmp_path / "newer", 1, board)
    assert not (suite / "confirm" / "newer" / LOOKS).exists()
    (out / LOOKS).unlink()
    with pytest.raises(BadInput, match="is missing: looks at this archive can't be counted"):
        confirm(suite, None, tmp_path / "new", 1, board)


def test_a_run_that_is_trained_again_needs_another_archive(suite: Path, board: ProgressBoard) -> None:
    _, out = confirm(suite, ["fitted"], None, 1, board)
    [weights] = (suite / "cells").glob("fitted-radar-*/model.safetensors")
    [other] = (suite / "cells").glob("fitted-dualpol-*/model.safetensors")
    shutil.copy(other, weights)
    with pytest.raises(BadInput, match="was trained again after a look at this archive"):
        confirm(suite, ["fitted"], None, 1, board)
    assert len(looks(out)) == 1
