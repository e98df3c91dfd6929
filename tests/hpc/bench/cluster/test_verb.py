"""`bench --cluster` where nothing can be submitted, and what jobs and local runs do to each other."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from polarcast.data.errors import BadInput
from polarcast.data.files import has_writer, sole_writer
from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.cluster.claims import claim_of, claimed, claimed_in
from polarcast.hpc.bench.cluster.plan import CellArray, JobPlan, PlanFolder
from polarcast.hpc.bench.cluster.worker import finish, make_data, open_suite, run_element
from polarcast.hpc.bench.failures import last_lines, write_failure
from polarcast.hpc.bench.run import finished_tables
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.slurm.queue import Queued
from tests.support.small_suite import BASELINES, run_suite_into


@pytest.fixture
def board() -> ProgressBoard:
    console = stderr()
    console.quiet = True
    return ProgressBoard(console)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--cluster", "nowhere"), "no such cluster profile"),
        (("--cluster", "cpu"), "Slurm is not available"),
        (("--cluster", "cpu", "--workers", "2"), "--workers: does not go with --cluster"),
        (("--cluster", "cpu", "--tables-only"), "--tables-only: does not go with --cluster"),
        (("--confirm", "--cluster", "cpu"), "--cluster: does not go with --confirm"),
        (("--at-most", "3"), "--at-most: needs --cluster"),
        (("--dry-run",), "--dry-run: needs --cluster"),
        (("--cluster", "cpu", "--at-most", "-1"), "--at-most"),
    ],
)
def test_what_can_not_be_submitted_is_one_line(
    polarcast_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = polarcast_here("bench", "demo-nowcast", *words)
    assert (code, out) == (2, "")
    assert problem in err
    assert not list(tmp_path.iterdir())


def test_suite_that_can_not_fit_is_refused_before_anything_is_submitted(
    polarcast_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("polarcast.slurm.submit.has_slurm", lambda: True)
    (tmp_path / "small.yaml").write_text("memory: 100M\n")
    code, out, err = polarcast_here("bench", "demo-nowcast", "--cluster", "small.yaml")
    assert (code, out) == (2, "")
    assert "small.yaml: the suite can't run on this cluster: persistence, radar needs 1.5 GiB of a node" in err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_dry_run_prints_the_scripts_and_writes_nothing(
    polarcast_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = polarcast_here("bench", "demo-nowcast", "--cluster", "gpu", "--dry-run", "--at-most", "3")
    assert code == 0
    assert out.count("#!/bin/bash") == 4
    assert "%3" in out
    assert not list(tmp_path.iterdir())


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A suite as `bench --cluster` saves it, before its first job."""
    (tmp_path / "small.yaml").write_text(BASELINES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "suite.yaml").write_text(BASELINES)
    return tmp_path / "out"


def plan_for(folder: Path) -> JobPlan:
    elements = ((("published", "radar", 0), ("published", "dualpol", 0)), (("fitted", "dualpol", 0),))
    plan = JobPlan("20261129-210000-ab12", True, (CellArray("cells-0", 0, 0, elements),), {})
    PlanFolder(folder, plan.key).write(plan)
    return plan


def test_jobs_make_the_tables_of_a_local_run(begun: Path, board: ProgressBoard, no_figures: None) -> None:
    plan = plan_for(begun)
    with pytest.raises(Exception, match="data of the suite were not made"):
        finish(begun, plan, board)
    make_data(begun, board)
    for element in (0, 1):
        assert run_element(begun, plan, "cells-0", element, board) == []
        assert run_element(begun, plan, "cells-0", element, board) == [], "complete cells are not run again"
    starts = [path.read_text().count('"start"') for path in begun.glob("cells/*/attempts.jsonl")]
    assert starts == [1, 1, 1]
    ended = finish(begun, plan, board)
    assert (ended.again, ended.failed) == ([], [])
    run_suite_into(begun.parent / "alone", begun.parent / "small.yaml")
    tables = [json.loads((path / "tables" / "main.json").read_text()) for path in (begun, begun.parent / "alone")]
    assert tables[0]["records"] == tables[1]["records"]


def test_failed_cell_stands_in_the_tables(begun: Path, board: ProgressBoard, no_figures: None) -> None:
    plan = plan_for(begun)
    make_data(begun, board)
    run_element(begun, plan, "cells-0", 0, board)
    opened = open_suite(begun)
    run = opened.folder.cell(opened.cells["fitted", "dualpol", 0], opened.manifest).path
    run.mkdir(parents=True)
    write_failure(run, "loss is\nnot finite", 2)
    assert [path.name for path in finish(begun, plan, board).failed] == [run.name]
    table = finished_tables(opened.suite, opened.folder)["main"]
    [lost] = [record for record in table.records if record.model == "fitted"]
    assert (lost.value, lost.arm, lost.reason) == (None, "dualpol", "failed: loss is not finite")
    assert "failed: fitted, dual-pol, seed 0 (loss is not finite)" in table.note
    text = (begun / "tables" / "main.md").read_text()
    assert "–¹ failed: loss is not finite" in text
    known = [r for r in table.records if r.model == "published" and r.value is not None]
    assert len(known) == 3, "the others keep their numbers"


def test_secrets_and_escapes_stay_out_of_the_record_of_a_failure(tmp_path: Path) -> None:
    token = "a1B2c3D4" * 5
    (tmp_path / "output.txt").write_text(f"first\n\n\x1b[31m https://host/?token={token}\n" + "x" * 1000 + "\n")
    lines = last_lines(tmp_path / "output.txt")
    assert len(lines) == 3
    assert token not in "".join(lines)
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) <= 300
    assert last_lines(tmp_path / "absent.txt") == []


def test_claim_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polarcast.hpc.bench.cluster.claims._POLL_SECONDS", 0.02)
    order: list[str] = []

    def second() -> None:
        with claimed([claim_of(tmp_path, "a"), claim_of(tmp_path, "b")]):
            order.append("second")

    other = threading.Thread(target=second)
    with claimed([claim_of(tmp_path, "b")]):
        other.start()
        while "a" not in claimed_in(tmp_path):
            time.sleep(0.01)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert claimed_in(tmp_path) == []


def test_local_run_leaves_a_suite_to_the_jobs_that_work_on_it(begun: Path) -> None:
    with sole_writer(claim_of(begun, "data")), pytest.raises(BadInput, match="jobs of a cluster work here"):
        run_suite_into(begun, begun.parent / "small.yaml")
    assert [path.name for path in begun.iterdir() if path.name != "cluster"] == ["suite.yaml"]


def test_looking_at_a_lock_keeps_no_writer_out(tmp_path: Path) -> None:
    """`has_writer` holds the lock for a moment; a writer that comes in that moment waits instead of failing."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.0005):
            looks.append(has_writer(tmp_path))

    looks: list[bool] = []
    other = threading.Thread(target=look)
    other.start()
    try:
        for _ in range(1000):
            with sole_writer(tmp_path):
                pass
    finally:
        ended.set()
        other.join()
    assert len(looks) > 10


def test_suite_that_changed_since_is_left_out_of_old_plans(begun: Path) -> None:
    suite = load_suite(str(begun / "suite.yaml"), is_stored=True)
    opened = open_suite(begun)
    assert SuiteFolder(begun, suite.data).shards == opened.folder.shards
    assert opened.some([("gone", "radar", 0), ("fitted", "dualpol", 0)]) == [opened.cells["fitted", "dualpol", 0]]


def test_cell_that_can_not_be_started_ends_the_job(
    begun: Path, board: ProgressBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(begun)
    make_data(begun, board)

    def full(*_: object) -> None:
        raise BadInput("No space left on device", "cells", "free some")

    monkeypatch.setattr("polarcast.hpc.bench.run.start_cell", full)
    with pytest.raises(BadInput, match="No space left"):
        run_element(begun, plan, "cells-0", 1, board)


def test_canceled_cells_are_told_while_other_jobs_live(
    begun: Path, polarcast_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command finds the jobs, and says which cells are not among them any more."""
    monkeypatch.setattr("polarcast.slurm.submit.has_slurm", lambda: True)
    suite = load_suite(str(begun.parent / "small.yaml"))
    (begun / "suite.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(suite)))
    plan = plan_for(begun)
    PlanFolder(begun, plan.key).record({"data": "7", "cells-0": "8", "tables": "9"})
    names = {name: f"small-{plan.key}-{name}" for name in plan.names}
    listed = [
        Queued("8", 1, "PENDING", "Priority", names["cells-0"]),
        Queued("9", None, "PENDING", "", names["tables"]),
    ]
    monkeypatch.setattr("polarcast.slurm.queue.jobs_named", lambda _: listed)
    words = ("bench", begun.parent / "small.yaml", "--cluster", "cpu", "--out", begun)
    code, out, _ = polarcast_here(*words)
    assert code == 0
    assert "already submitted: 3 cells, jobs data 7, cells-0 8, tables 9" in out
    assert "2 cells were canceled or lost: run the same command when the other jobs have ended" in out
    assert f"look: polarcast bench status {begun}" in out
    (begun.parent / "small.yaml").write_text(BASELINES.replace("title: Main", "title: Other"))
    code, _, err = polarcast_here(*words)
    assert code == 2
    assert "jobs of another version of this suite are in the queue" in err


def test_data_that_were_not_made_are_told_with_the_last_line_of_their_log(
    begun: Path, polarcast_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(begun)
    log = PlanFolder(begun, plan.key).path / f"small-{plan.key}-data-7.log"
    log.write_text("shard: 3 events …\npolarcast: /data/archive: no such folder\n")
    monkeypatch.setattr("polarcast.slurm.queue.jobs_named", lambda _: [])
    code, out, _ = polarcast_here("bench", "status", begun)
    assert code == 0
    assert "the data were not made: polarcast: /data/archive: no such folder" in " ".join(out.split())
