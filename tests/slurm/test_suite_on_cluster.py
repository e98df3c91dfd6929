"""A suite as jobs of a real cluster: the same tables as without it, whatever happens to jobs, nodes and controller."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polarcast.hpc.runs.folder import RunFolder
from tests.support.slurm_cluster.cluster import NODES, Cluster
from tests.support.small_suite import run_suite_into

pytestmark = pytest.mark.slurm
SUITE = """
name: nightly
data: {{synth: {{events: 12, frames: 2, size: 32, preset: tiny, seed: 1}}, split: 0.5/0.25/0.25}}
models:
  unet: {{label: U-Net, set: {net}}}
  tuned: {{label: tuned, start_from: unet, arms: [dualpol], set: {net}}}
{more}
tables:
  main: {{title: Main, metrics: [rmse, csi@threshold=1]}}
"""
NET = (
    "{model: {widths: [4, 8]}, match_params: false, train: {steps: STEPS, validate_every: STEPS, global_batch: 4, "
    "checkpoint_every: 4, log_every: 4, threads: 1}}"
)
MORE = """
  wide: {label: wide, arms: [radar], set: {model: {widths: [4, 8]}, match_params: false,
         train: {nodes: 2, steps: 8, validate_every: 8, global_batch: 4, threads: 1}}}
  broken: {label: broken, arms: [radar], set: {model: {widths: [4, 8]}, match_params: false,
           train: {steps: 40, validate_every: 20, global_batch: 4, threads: 1, learning_rate: 1000, warmup_steps: 1,
                   clip_norm: 0, explode: 1}}}
"""
SECONDS = 420


def suite_file(folder: Path, steps: int, more: str = "") -> Path:
    file = folder / "nightly.yaml"
    file.write_text(SUITE.format(net=NET.replace("STEPS", str(steps)), more=more))
    return file


class Night:
    """A suite that was submitted from a folder."""

    def __init__(self, slurm: Cluster, folder: Path) -> None:
        self.slurm, self.folder, self.out = slurm, folder, folder / "runs" / "nightly"

    def polarcast(self, *words: str) -> str:
        command = ["bash", "-c", 'cd "$1" && shift && exec polarcast "$@"', "bash", self.folder, *words]
        return self.slurm.run(*command, seconds=120)

    def submit(self, *options: str) -> dict:
        return json.loads(self.polarcast("bench", "nightly.yaml", "--cluster", "test", *options, "--json"))

    def submit_twice(self, *options: str) -> tuple[dict, dict]:
        """Submit by two processes at once."""
        command = ["polarcast", "bench", "nightly.yaml", "--cluster", "test", *options, "--json"]
        script = 'cd "$1" && shift && { "$@" >one & "$@" >two & wait; } && cat one two'
        first, second = self.slurm.run("bash", "-c", script, "bash", self.folder, *command, seconds=120).splitlines()
        return json.loads(first), json.loads(second)

    def status(self) -> dict:
        return json.loads(self.polarcast("bench", "status", "nightly.yaml", "--json"))

    def cells(self) -> list[Path]:
        return sorted(self.out.glob("cells/*"))

    def cell(self, name: str) -> Path | None:
        return next((path for path in self.cells() if path.name.startswith(f"{name}-")), None)

    def steps(self, name: str) -> int:
        """Return the step of the newest checkpoint of a cell."""
        found = self.cell(name)
        steps = [int(path.name.removeprefix("step-")) for path in found.glob("checkpoints/step-*")] if found else []
        return max(steps, default=0)

    def attempts(self, name: str) -> list[dict]:
        found = self.cell(name)
        return [json.loads(line) for line in (found / "attempts.jsonl").open()] if found else []

    def starts(self, name: str) -> int:
        return sum(record["event"] == "start" for record in self.attempts(name))

    def wait(self, holds: Callable[[], object], problem: str, seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{problem}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        files = sorted(self.out.glob("cluster/*/*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-2000:]}" for file in files)

    def node_of(self, name: str) -> str | None:
        """Return the node on which the process of a cell runs; its output goes to a file in the cell's folder."""
        found = self.cell(name)
        return next((node for node in NODES if found and self._in_processes(node, found, "echo yes")), None)

    def signal(self, name: str, signal: str) -> bool:
        """Send a signal to the process of a cell; return whether there was one."""
        found = self.cell(name)
        command = f'kill -{signal} "${{p#/proc/}}" && echo yes'
        return bool(found) and any(self._in_processes(node, found, command) for node in NODES)

    def hold(self, name: str, step: int) -> None:
        """Pause the process of a cell once it has saved a step, before it can finish."""
        self.wait(lambda: self.steps(name) >= step, f"{name} has not saved step {step}")
        assert self.signal(name, "STOP"), f"{name} has no process"

    def _in_processes(self, node: str, cell: Path, command: str) -> bool:
        script = f'for p in /proc/[0-9]*; do [ "$(readlink $p/fd/1)" = "{cell}/output.txt" ] && {command}; done; true'
        try:
            return "yes" in self.slurm.run_on(node, "bash", "-c", script)
        except RuntimeError:  # the node is down
            return False

    def records(self) -> list[dict]:
        return json.loads((self.out / "tables" / "main.json").read_text())["records"]


@pytest.fixture
def night(slurm: Cluster, tmp_path: Path) -> Iterator[Night]:
    yield Night(slurm, tmp_path)
    slurm.run("scancel", "--user=root")


def test_tables_are_those_without_a_cluster(night: Night, tmp_path: Path) -> None:
    """A cell is killed twice, the controller restarts, a node is lost: the tables are the same, digit for digit."""
    file = suite_file(tmp_path, 400)
    first = night.submit()
    assert first["new"]
    assert list(first["jobs"]) == ["data", "cells-0", "cells-1", "tables"]
    night.hold("unet-dualpol-s0", 4)
    assert night.submit() == {**first, "new": False}, "the same command finds the jobs"
    [held] = [c for c in night.status()["cells"] if (c["model"], c["arm"]) == ("unet", "dualpol")]
    assert (held["state"], held["steps"]) == ("running", 400)
    assert held["step"] >= 4
    assert night.signal("unet-dualpol-s0", "KILL")
    before = night.steps("unet-dualpol-s0")
    night.slurm.restart_controller()
    night.hold("unet-dualpol-s0", before + 4)
    assert night.signal("unet-dualpol-s0", "KILL")
    night.hold("tuned-dualpol-s0", 4)
    [node] = [node for node in [night.node_of("tuned-dualpol-s0")] if node]
    night.slurm.cut_power(node)
    time.sleep(1)
    night.slurm.start(node)
    night.wait(lambda: (night.out / "report.html").is_file(), "no report")
    assert night.starts("unet-dualpol-s0") == 3
    assert night.starts("tuned-dualpol-s0") == 2
    shown = night.status()
    assert shown["counts"]["done"] == 3
    assert shown["hours"] > 0
    run_suite_into(tmp_path / "alone", file)
    alone = json.loads((tmp_path / "alone" / "tables" / "main.json").read_text())["records"]
    assert night.records() == alone
    night.wait(lambda: not night.status()["jobs"], "the last job does not end", 60)
    assert "all cells are complete" in night.polarcast("bench", "nightly.yaml", "--cluster", "test")


def test_a_failed_cell_stands_in_the_table_and_a_killed_job_is_submitted_again(night: Night, tmp_path: Path) -> None:
    suite_file(tmp_path, 400, MORE)
    first, second = night.submit_twice("--together")
    jobs = first["jobs"]
    assert (first["new"], second) in ((True, {**first, "new": False}), (False, {**first, "new": True}))
    night.hold("unet-radar-s0", 4)
    night.wait(lambda: night.steps("unet-dualpol-s0") >= 4, "no checkpoint")
    night.slurm.run("scancel", "--signal=USR2", "--batch", f"{jobs['cells-0']}_{element_of(night, 'dualpol')}")
    night.slurm.run("scancel", "--signal=KILL", "--batch", f"{jobs['cells-0']}_{element_of(night, 'radar')}")
    night.wait(lambda: len(list(night.out.glob("cluster/*/plan.json"))) == 2, "the killed job is not submitted again")
    night.wait(lambda: night.status()["counts"]["done"] == 4 and not night.status()["jobs"], "it never ended")
    stopped = night.attempts("unet-dualpol-s0")
    assert [record["event"] for record in stopped] == ["start", "end", "start", "end"], "signaled, requeued, resumed"
    assert stopped[0]["step"] < stopped[1]["step"] == stopped[2]["step"] < stopped[3]["step"] == 400
    shown = night.status()
    [wide] = [cell for cell in night.cells() if cell.name.startswith("wide")]
    assert next(r["world_size"] for r in RunFolder(wide).records() if r["event"] == "start") == 2
    [broken] = [cell for cell in shown["cells"] if cell["model"] == "broken"]
    assert (broken["state"], broken["starts"]) == ("failed", 2)
    assert broken["note"].startswith("step 2: loss inf"), broken["note"]
    [lost] = [record for record in night.records() if record["model"] == "broken" and record["metric"] == "rmse"]
    assert (lost["value"], lost["reason"]) == (None, f"failed: {broken['note']}")
    text = (night.out / "tables" / "main.md").read_text()
    assert "broken" in text
    assert broken["note"] in text


def element_of(night: Night, arm: str) -> int:
    """Return the index of the element that holds the U-Net of an arm."""
    [plan] = night.out.glob("cluster/*/plan.json")
    arrays = {array["name"]: array["elements"] for array in json.loads(plan.read_text())["arrays"]}
    return next(index for index, cells in enumerate(arrays["cells-0"]) if ["unet", arm, 0] in cells)
