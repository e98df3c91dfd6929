"""From synthetic data to tables through the command line, with real training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polarcast.data.archive import Archive
from polarcast.hpc.utils.exit_codes import ENDED_EARLY
from tests.support import warm

pytestmark = pytest.mark.journey

SUITE = """
data:
  synth: {events: 12, frames: 3, size: 32, preset: tiny, seed: 1}
  split: 0.5/0.2/0.3
models:
  fitted: {label: fitted, set: {model: {name: power_law, coefficients: fitted}}}
  unet:
    label: U-Net
    set: {model: {widths: [8, 12, 20]}, train: {steps: 60, validate_every: 10, global_batch: 4}}
tables:
  table_8_1:
    title: Table 8.1
    metrics: [rmse, paper_csi]
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "polarcast.hpc.cli", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return warm.run(command(*arguments), capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "small.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def finished(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a benchmark that ran without interruption."""
    out = tmp_path_factory.mktemp("runs") / "small"
    done = run("bench", suite, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "dual-pol vs radar" in done.stdout
    return out


def table(out: Path) -> str:
    return (out / "tables" / "table_8_1.json").read_text()


def test_all_outputs_are_written(finished: Path) -> None:
    written = {p.name for p in (finished / "tables").iterdir()}
    assert written == {"verdict.txt", *(f"table_8_1.{s}" for s in ("json", "csv", "md", "tex"))}
    assert (finished / "figures" / "cases.png").stat().st_size > 10_000
    for cell in (finished / "cells").iterdir():
        assert {"config.yaml", "provenance.json", "scores.parquet", "model.safetensors"} <= {
            p.name for p in cell.iterdir()
        }
    rows = json.loads(table(finished))["records"]
    assert {(r["model"], r["arm"]) for r in rows} == {
        (m, a) for m in ("fitted", "unet") for a in ("radar", "dualpol", "difference")
    }


def test_second_run_recomputes_nothing(suite: Path, finished: Path) -> None:
    kept = [*finished.glob("cells/*/*"), *finished.glob("data-*/shards/*")]
    stamps = {p: p.stat().st_mtime_ns for p in kept}
    first = table(finished)
    done = run("bench", suite, "--out", finished, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tables"]["table_8_1"] == json.loads(first)
    assert {p: p.stat().st_mtime_ns for p in kept} == stamps
    assert table(finished) == first


def test_tables_only_needs_no_new_run(suite: Path, finished: Path, tmp_path: Path) -> None:
    done = run("bench", suite, "--out", finished, "--tables-only")
    assert done.returncode == 0
    sentences = (finished / "tables" / "verdict.txt").read_text("utf-8").splitlines()
    assert len(sentences) == 3
    assert " ".join(sentences) in " ".join(done.stdout.split())
    assert "trained models are not comparable with one seed (U-Net)" in sentences[0]
    assert "real storms (these are synthetic)" in sentences[2]
    assert run("bench", suite, "--out", tmp_path / "empty", "--tables-only").returncode == 2


def test_unfinished_suite_shows_finished_models_and_names_the_others(
    suite: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "half"
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns("checkpoints", "archive"))
    next(out.glob("cells/unet-radar-*/scores.parquet")).unlink()
    done = run("bench", suite, "--out", out, "--tables-only", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["tables"]["table_8_1"]
    assert {r["model"] for r in shown["records"]} == {"fitted"}
    assert "3 of 4 runs are scored; left out, without a complete seed: U-Net" in shown["note"]
    for file in out.glob("cells/*/scores.parquet"):
        file.unlink()
    refused = run("bench", suite, "--out", out, "--tables-only")
    assert (refused.returncode, "no model of this suite is scored" in refused.stderr) == (2, True)


@pytest.mark.parametrize("moment", ["synthesis", "training"])
def test_table_is_identical_after_kill_and_rerun(suite: Path, finished: Path, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "small"
    sign = {"synthesis": "data-*/archive/NJU_CPOL_kdpRain/*", "training": "cells/unet-*/checkpoints/step-*"}[moment]
    process = warm.Popen(command("bench", suite, "--out", out), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(out.glob(sign)) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "tables").exists()
    _wait_for_orphans(process.pid)
    done = run("bench", suite, "--out", out)
    assert done.returncode == 0, done.stderr
    assert table(out) == table(finished)


def test_stopped_cell_is_reported_and_saved(tmp_path: Path) -> None:
    long = SUITE.replace("steps: 60", "steps: 20000").replace("label: U-Net", "label: U-Net\n    arms: [dualpol]")
    (tmp_path / "long.yaml").write_text(long)
    started = command("bench", tmp_path / "long.yaml", "--out", tmp_path / "long")
    with warm.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as bench:
        deadline = time.monotonic() + 120
        while not (saved := list(tmp_path.glob("long/cells/unet-*/checkpoints/step-*"))):
            assert time.monotonic() < deadline, "nothing was saved"
            time.sleep(0.05)
        cell = saved[0].parents[1]
        os.kill(_process_of(cell), signal.SIGTERM)
        printed, _ = bench.communicate(timeout=60)
    assert bench.returncode == ENDED_EARLY, printed
    assert "unet-dualpol: stopped" in printed
    assert f"{cell.name} was stopped; its progress is saved — run the same command to continue" in printed
    assert not (cell / "scores.parquet").exists()


def _process_of(cell: Path) -> int:
    """Return the process whose standard output is that of a cell."""
    [stdout] = [fd for fd in Path("/proc").glob("[0-9]*/fd/1") if os.path.realpath(fd) == str(cell / "output.txt")]
    return int(stdout.parts[2])


def _wait_for_orphans(session: int) -> None:
    """Wait until the cells and workers of a killed benchmark have ended."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = subprocess.run(["pgrep", "-s", str(session)], capture_output=True, text=True).stdout.split()
        if not listed:
            return
        time.sleep(0.1)
    raise AssertionError(f"processes outlived their benchmark: {listed}")


def test_finished_suite_is_scored_on_another_archive(finished: Path, archive: Archive) -> None:
    done = run("evaluate", finished, "--archive", archive.root, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {r["events"] for r in report["tables"]["table_8_1"]["records"]} == {8}
    assert Path(report["folder"]).is_relative_to(finished)


def test_single_run_is_scored_on_its_validation_split(finished: Path) -> None:
    cell = next(finished.glob("cells/unet-dualpol-*"))
    before = (cell / "scores.parquet").read_bytes()
    done = run("evaluate", cell, "--split", "validation", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["events"] == 2
    rmse = next(row for row in report["tables"][0]["rows"] if row["score"] == "rmse")
    assert rmse["all"] > 0
    assert list(rmse["values"]) == ["0", "10", "30", "50"]
    assert (cell / "scores.parquet").read_bytes() == before


def test_scores_are_shown_from_records_without_the_model(finished: Path, tmp_path: Path) -> None:
    cell = next(finished.glob("cells/unet-dualpol-*"))
    shutil.copytree(cell, tmp_path / "cell")
    (tmp_path / "cell" / "model.safetensors").unlink()
    done = run("evaluate", tmp_path / "cell", "--recorded", "--scores", "csi@threshold=*", "--by", "lead_time")
    assert done.returncode == 0, done.stderr
    assert all(f"CSI ≥ {t} mm/h" in done.stdout for t in ("0.5", "1", "5", "10"))
    refused = run("evaluate", tmp_path / "cell", "--recorded", "--scores", "csi")
    assert refused.returncode == 2
    assert "csi@threshold=…" in refused.stderr


@pytest.mark.real_data
def test_single_real_event_has_no_interval(finished: Path, real_event: Path) -> None:
    done = run("evaluate", finished, "--archive", real_event)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "no interval can be given for a single event" in words
    assert "the rain grid is an R(KDP) product" in words
