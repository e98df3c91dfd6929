"""What a suite has found is in the files of W&B: artifacts, tables, group; once, and without secrets."""

import ast
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from polarcast.data.errors import BadInput, WorkFailed
from polarcast.hpc.cli.app import app
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.tracking.mirror import open_mirror, runs_in
from polarcast.hpc.tracking.suite import log_suite
from polarcast.hpc.tracking.template import report_program
from tests.support.small_suite import BASELINES, run_small_suite
from tests.support.wandb_file import OfflineRun

SECRET = "hush-hush-hush"
PICTURE = b"\x89PNG\r\n" + bytes(range(256))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run_small_suite(tmp_path_factory.mktemp("suites"), BASELINES)
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "errors.png").write_bytes(PICTURE)
    return folder


@pytest.fixture
def suite(finished: Path, tmp_path: Path) -> Path:
    """Copy of the folder of a finished suite."""
    return Path(shutil.copytree(finished, tmp_path / "storms"))


def test_report_tables_and_figures_are_artifacts_of_the_group(suite: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "storms.zip"
    bundle.write_bytes(b"PK bundle")
    assert log_suite(suite, "radar", "offline", bundle) == ["report", "tables", "figures", "bundle"]
    sent = OfflineRun(suite)
    assert sent.groups == {"storms"}
    assert sent.job_types == {"report"}
    assert sorted(sent.artifacts) == sorted(["report", "tables", "figures", "bundle", "run_table"])
    assert sent.contents["figures"] == {"errors.png": PICTURE}
    assert sent.contents["bundle"] == {"storms.zip": b"PK bundle"}
    assert sent.contents["report"]["report.html"] == (suite / "report.html").read_bytes()
    on_disk = {path.name: path.read_bytes() for path in (suite / "tables").iterdir()}
    assert sent.contents["tables"] == on_disk
    assert {"main.csv", "main.json", "main.md"} <= on_disk.keys()


def test_tables_hold_numbers(suite: Path) -> None:
    log_suite(suite, "radar", "offline")
    [file] = suite.glob("wandb/offline-run-*/files/media/table/tables/main*.json")
    table = json.loads(file.read_text())
    rows = list(csv.DictReader((suite / "tables" / "main.csv").read_text().splitlines()))
    assert table["columns"] == list(rows[0])
    at = table["columns"].index("value")
    assert [row[at] for row in table["data"]] == [float(row["value"]) if row["value"] else None for row in rows]
    assert [row[table["columns"].index("model")] for row in table["data"]] == [row["model"] for row in rows]


def test_a_second_call_sends_what_has_changed_only(suite: Path) -> None:
    assert log_suite(suite, "radar", "offline") == ["report", "tables", "figures"]
    files = sorted(suite.glob("wandb/offline-run-*"))
    assert log_suite(suite, "radar", "offline") == []
    assert sorted(suite.glob("wandb/offline-run-*")) == files
    (suite / "report.html").write_text("<p>new</p>")
    assert log_suite(suite, "radar", "offline") == ["report"]
    assert len(OfflineRun(suite).ids) == 1  # one run of W&B, continued


def test_nothing_secret_is_sent(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    embedded = "data:image/png;base64,dG9rZW49aHVzaA=="
    (suite / "report.html").write_text(f'<img src="{embedded}"> https://me:{SECRET}@store/shards')
    (suite / "tables" / "more.csv").write_text(f"where,value\ntoken={SECRET},1\n")
    log_suite(suite, "radar", "offline")
    assert embedded.encode() in OfflineRun(suite).contents["report"]["report.html"]
    for path in (p for p in (suite / "wandb").rglob("*") if p.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
        assert b"k" * 40 not in path.read_bytes(), path


def test_the_runs_of_the_suite_are_in_the_same_group(suite: Path) -> None:
    path = runs_in([suite])[0]
    mirror = open_mirror(RunFolder(path), "wandb", "offline", "radar")
    mirror.update()
    mirror.finish()
    log_suite(suite, "radar", "offline")
    run = OfflineRun(path)
    assert run.groups == OfflineRun(suite).groups == {"storms"}
    assert any("test/rmse" in row for row in run.history.values())  # what the bars of a W&B Report show


def test_what_is_no_finished_suite_is_refused(tmp_path: Path, suite: Path) -> None:
    with pytest.raises(BadInput, match=r"not a suite: it has no suite\.yaml"):
        log_suite(tmp_path, "radar", "offline")
    with pytest.raises(BadInput, match="no such file"):
        log_suite(suite, "radar", "offline", tmp_path / "missing.zip")
    shutil.rmtree(suite / "tables")
    (suite / "report.html").unlink()
    with pytest.raises(BadInput, match="has no report and no tables yet"):
        log_suite(suite, "radar", "offline")


def test_without_a_key_nothing_counts_as_sent(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(WorkFailed, match="wandb: "):
        log_suite(suite, "radar", "online")
    assert log_suite(suite, "radar", "offline") == ["report", "tables", "figures"]


def test_the_verb_tells_what_was_sent(suite: Path) -> None:
    first = CliRunner().invoke(app, ["track", "suite", str(suite), "--mode", "offline"])
    assert first.exit_code == 0, first.output
    assert f"{suite}: report, tables, figures sent" in first.output
    again = CliRunner().invoke(app, ["track", "suite", str(suite), "--mode", "offline", "--json"])
    assert json.loads(again.output) == {"suite": str(suite), "sent": []}


def test_the_template_is_a_program_with_the_names_of_the_suite(suite: Path) -> None:
    shown = CliRunner().invoke(app, ["track", "template", str(suite), "--project", "radar's", "--entity", "me"])
    assert shown.exit_code == 0, shown.output
    tree = ast.parse(shown.output)
    constants = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    assert (constants["GROUP"], constants["PROJECT"], constants["ENTITY"]) == ("storms", "radar's", "me")
    assert all(name.startswith("test/") for name in constants["SCORES"])
    compile(tree, "report.py", "exec")
    assert report_program("demo", "polarcast") + "\n" == (
        Path(__file__).parents[3] / "hpc" / "tracking" / "report_template.txt"
    ).read_text("utf-8")


def test_a_program_is_written_once(tmp_path: Path) -> None:
    arguments = ["track", "template", "--project", "radar", "--out", str(tmp_path / "report.py")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (tmp_path / "report.py").read_text() == report_program("demo", "radar") + "\n"
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, BadInput)
    assert "exists, and you may have edited it" in str(again.exception)


def test_the_blocks_of_the_template_are_those_of_the_package() -> None:
    names: dict[str, Any] = {"__name__": "report"}
    exec(compile(report_program("demo", "polarcast"), "report.py", "exec"), names)
    assert len(names["blocks"]()) > 5
