"""The verb `polarcast data quality`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.cli.data import app


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_accuracy_calibration_and_share_are_shown_and_stored(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 24, size=32, seed=3, preset="tiny", frames=3)
    write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards", split="0.75/0.125/0.125")
    shown = CliRunner().invoke(app, ["quality", str(tmp_path / "shards"), str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    for words in ("poor by the rule", "accuracy, 5 folds of groups", "Brier score", "Calibration, cross-validated"):
        assert words in shown.output
    report = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert report["format"] == "polarcast-frame-quality/1"
    assert report["training_frames"] == 54
    assert sum(frames for *_, frames in report["assessment"]["reliability"]) == report["assessment"]["frames"] == 54
    assert (tmp_path / "out" / "quality.png").read_bytes().startswith(b"\x89PNG")
    as_json = CliRunner().invoke(app, ["quality", str(tmp_path / "shards"), "--json"])
    assert json.loads(as_json.stdout)["assessment"] == report["assessment"]


def test_too_few_events_and_no_shards_are_one_line(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["quality", str(tmp_path)])
    assert isinstance(missing.exception, BadInput)
    write_archive(tmp_path / "archive", 3, size=32, seed=3, preset="tiny", frames=1)
    write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards", split="0.34/0.33/0.33")
    few = CliRunner().invoke(app, ["quality", str(tmp_path / "shards"), str(tmp_path / "out")])
    assert isinstance(few.exception, BadInput)
    assert str(few.exception).startswith("data.drop_by: too few training frames")
    assert not (tmp_path / "out").exists()
