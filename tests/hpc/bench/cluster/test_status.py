"""States of the cells of a suite, from its files and from what the queue lists."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from polarcast.data.files import sole_writer
from polarcast.hpc.bench.cluster.attempts import AttemptRecorder
from polarcast.hpc.bench.cluster.claims import claim_of, claimed_in
from polarcast.hpc.bench.cluster.plan import CellArray, JobPlan
from polarcast.hpc.bench.cluster.status import CellStatus, Queue, SuiteStatus, hours_left, queue_of, status_of
from polarcast.hpc.bench.cluster.view import MARKS, doing, headline, page, terminal
from polarcast.hpc.bench.cluster.worker import OpenedSuite, open_suite
from polarcast.hpc.bench.failures import write_failure
from polarcast.hpc.utils.console import stdout
from tests.support.small_suite import run_suite_into

SUITE = """
name: seen
data: {synth: {events: 8, frames: 1, size: 32, preset: tiny, seed: 5}, split: 0.5/0.25/0.25}
seeds: [0, 1]
models:
  published: {label: "published <law>", set: {model: {name: power_law, coefficients: published}}}
  unet: {label: U-Net, set: {model: {widths: [4, 8]}, match_params: false, train: {steps: 200, global_batch: 4}}}
tables:
  main: {title: Main, metrics: [rmse]}
"""
NO_QUEUE = Queue({}, {})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite whose physical baselines are complete; its nets are added below."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "seen.yaml").write_text(
        SUITE.replace("steps: 200, global_batch: 4", "steps: 2, global_batch: 4, threads: 1")
    )
    run_suite_into(folder / "out", folder / "seen.yaml")
    return folder / "out"


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> OpenedSuite:
    """The suite with longer trainings, of which none has begun."""
    text = (finished / "suite.yaml").read_text().replace("steps: 2\n", "steps: 200\n")
    (tmp_path / "suite.yaml").write_text(text)
    for name in finished.iterdir():
        if name.name.startswith("data-"):
            (tmp_path / name.name).symlink_to(name)
    (tmp_path / "cells").mkdir()
    for cell in finished.glob("cells/published-*"):
        (tmp_path / "cells" / cell.name).symlink_to(cell)
    return open_suite(tmp_path)


def run_of(opened: OpenedSuite, arm: str, seed: int) -> Path:
    return opened.folder.cell(opened.cells["unet", arm, seed], opened.manifest).path


def begin(run: Path, step: int, each: float = 0.5) -> None:
    """Write the log of a training that has made `step` steps of `each` seconds."""
    run.mkdir(parents=True)
    now = time.time()
    log = [
        {"event": "start", "step": 0, "world_size": 1, "time": now - each * step},
        {"event": "step", "step": step, "loss": 0.25, "seconds": each, "time": now},
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))


def state_of(status: SuiteStatus, arm: str, seed: int) -> CellStatus:
    return next(c for c in status.cells if (c.model, c.arm, c.seed) == ("unet", arm, seed))


def test_each_state_is_told_apart(opened: OpenedSuite) -> None:
    begin(run_of(opened, "radar", 0), 50)
    write_failure(run_of(opened, "radar", 0), "loss is not finite", 2)
    begin(run_of(opened, "radar", 1), 80)
    begin(run := run_of(opened, "dualpol", 0), 120)
    AttemptRecorder().started(run)
    queue = Queue({("unet", "dualpol", 1): ("PENDING", "Resources")}, {"tables": ("PENDING", "Dependency")})
    with sole_writer(claim_of(opened.folder.path, run.name)):
        status = status_of(opened, queue)
        assert claimed_in(opened.folder.path) == [run.name]
    assert {c.state for c in status.cells if c.model == "published"} == {"done"}
    assert (state_of(status, "radar", 0).state, state_of(status, "radar", 0).note) == ("failed", "loss is not finite")
    assert state_of(status, "radar", 1).state == "stopped"
    running = state_of(status, "dualpol", 0)
    assert (running.state, running.step, running.steps, running.loss) == ("running", 120, 200, 0.25)
    assert running.seconds_left == pytest.approx(40, rel=0.05)
    waiting = state_of(status, "dualpol", 1)
    assert (waiting.state, waiting.note) == ("waiting", "Resources")
    assert dict(status.stages) == {"tables": "pending (Dependency)"}
    assert status.hours == pytest.approx(250 * 0.5 / 3600)
    assert not status.is_over


def test_job_that_is_lost_leaves_a_stopped_cell(opened: OpenedSuite) -> None:
    begin(run := run_of(opened, "radar", 0), 50)
    AttemptRecorder().started(run)
    assert state_of(status_of(opened, NO_QUEUE), "radar", 0).state == "stopped"
    assert state_of(status_of(opened, NO_QUEUE), "radar", 1).state == "open"
    with sole_writer(run):  # `bench` without a cluster
        assert state_of(status_of(opened, NO_QUEUE), "radar", 0).state == "running"


def test_shards_that_are_not_made_leave_all_cells_open(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "suite.yaml").write_text((finished / "suite.yaml").read_text())
    opened = open_suite(tmp_path)
    status = status_of(opened, Queue(dict.fromkeys(opened.cells, ("PENDING", "Dependency")), {"data": ("RUNNING", "")}))
    assert {cell.state for cell in status.cells} == {"waiting"}
    assert dict(status.stages) == {"data": "running"}


def test_hours_to_come_follow_from_complete_trainings(opened: OpenedSuite) -> None:
    cells = [opened.cells["unet", "radar", 0], opened.cells["unet", "radar", 1]]
    done = CellStatus("unet", "U-Net", "radar", 0, "done", step=200, steps=200, hours=3.0)
    half = CellStatus("unet", "U-Net", "radar", 1, "running", step=100, steps=200, hours=1.5)
    assert hours_left(cells, [done, half]) == pytest.approx(1.5)
    assert hours_left(cells[1:], [half]) is None
    assert hours_left(cells[:1], [done]) == 0


def test_queue_is_read_by_element() -> None:
    plan = JobPlan(
        "k", True, (CellArray("cells-0", 0, 0, ((("a", "radar", 0), ("a", "radar", 1)), (("b", "radar", 0),))),), {}
    )
    listed = {("k", "data"): [(None, "RUNNING", "")], ("k", "cells-0"): [(0, "RUNNING", ""), (7, "PENDING", "")]}
    found = queue_of([plan], listed)
    assert found.cells == {("a", "radar", 0): ("RUNNING", ""), ("a", "radar", 1): ("RUNNING", "")}
    assert found.stages == {"data": ("RUNNING", "")}


def shown_status() -> SuiteStatus:
    cells = [
        CellStatus("a", "<b>law</b>", "radar", 0, "done"),
        CellStatus("u", "U-Net", "radar", 0, "running", "", "train", 120, 200, 0.03125, 45.0, 0.5, 3),
        CellStatus("u", "U-Net", "radar", 1, "waiting", "Resources"),
        CellStatus("u", "U-Net", "dualpol", 0, "failed", "loss is not finite", hours=0.25),
    ]
    return SuiteStatus("night", Path("runs/night"), cells, {"tables": "pending (Dependency)"}, 0.75, 1.5, True)


def test_terminal_shows_matrix_progress_and_reasons() -> None:
    console = stdout()
    with console.capture() as captured:
        console.print(terminal(shown_status()))
    text = captured.get()
    assert "▶·" in text
    for part in ("step 120 of 200, loss 0.03125, 45 s left, started 3 times", "loss is not finite", "Resources"):
        assert part in text
    assert "4 cells: 1 done, 1 running, 1 waiting, 1 failed" in headline(shown_status())
    assert "0.75 GPU-hours of training, about 1.5 to come; job tables: pending (Dependency)" in text


def test_page_shows_the_same_without_markup_of_labels() -> None:
    text = page(shown_status(), refresh_seconds=5)
    assert "<b>law</b>" not in text
    assert "&lt;b&gt;law&lt;/b&gt;" in text
    for cell in shown_status().cells:
        assert MARKS[cell.state] in text
        assert doing(cell) in text
    assert 'http-equiv="refresh" content="5"' in text
    assert "refresh" not in page(shown_status()).split("<body")[0].replace("refresh_seconds", "")


def test_verb_prints_and_writes_the_page(finished: Path, polarcast_here: Any) -> None:
    code, out, _ = polarcast_here("bench", "status", finished, "--json")
    assert code == 0
    assert json.loads(out)["counts"]["done"] == 6
    code, out, _ = polarcast_here("bench", "status", finished, "--follow")
    assert (code, "6 cells: 6 done" in out) == (0, True)
    assert "6 done" in (finished / "status.html").read_text()


@pytest.mark.parametrize(
    ("words", "problem"), [(("demo",), "no suite was begun here"), (("dmeo",), "did you mean demo")]
)
def test_verb_refuses_what_was_not_begun(
    polarcast_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = polarcast_here("bench", "status", *words)
    assert code == 2
    assert problem in err
    assert not list(tmp_path.iterdir())
