"""Contenders of a benchmark do equal work, and ratios agree with rows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from polarcast.hpc.config.load import load_config
from polarcast.hpc.perf.busy import neighbors
from polarcast.hpc.perf.inference import measure_inference
from polarcast.hpc.perf.loader import FLOOR, MAPPED, measure_loader
from polarcast.hpc.perf.measure import PerfRow, busy_rows, interleaved, ratio
from polarcast.hpc.perf.spec import LoaderSpec
from polarcast.hpc.perf.writer import SYNCED, TAR, WriterSpec, measure_writer
from polarcast.models.diffusion.network import DenoisingUNet


def test_contenders_run_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def work(name: str) -> float:
        calls.append(name)
        return 1e12 if len(calls) <= 2 else 1.0

    rows = interleaved({"a": lambda: work("a"), "b": lambda: work("b")}, rounds=3, unit="1/s")
    assert calls == ["a", "b"] * 4
    assert all(row.low <= row.value <= row.high for row in rows)
    assert all(row.high < 1e12 for row in rows)


def test_ratio_is_the_median_over_rounds() -> None:
    """A slow round is slow for both contenders."""
    a, b = (PerfRow(name, 0, "GB/s", 0, 0, rounds) for name, rounds in (("a", (6.0, 0.6, 8.0)), ("b", (2.0, 0.2, 1.0))))
    assert ratio([a, b], "a", "b") == pytest.approx(3)


def test_turn_lasts_at_least_the_given_time() -> None:
    [row] = interleaved({"a": lambda: 1.0}, rounds=1, unit="1/s", least_seconds=0.02)
    assert row.value > 100


def test_each_turn_has_an_idle_and_a_busy_half() -> None:
    state, seen = [False], []

    def work() -> float:
        seen.append(state[0])
        return 1.0

    def switch(run: bool) -> None:
        state[0] = run

    rows = interleaved({"a": work, "b": work}, rounds=2, unit="1/s", switch=switch)
    assert seen == [False, True] * 6
    assert [row.name for row in busy_rows(rows)] == ["a", "b"]
    assert not state[0]


def process_state(pid: int) -> str:
    """State of a process, such as T if it is stopped; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return ""


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_neighbors_run_when_told_and_end_with_the_block() -> None:
    before = children()
    with neighbors(2) as switch:
        mine = children() - before
        assert switch
        assert len(mine) == 2
        until(lambda: {process_state(pid) for pid in mine} == {"T"})
        switch(True)
        until(lambda: {process_state(pid) for pid in mine} == {"R"})
        for pid in mine:
            os.kill(pid, signal.SIGINT)  # as Ctrl-C does, which must not print an error of theirs
        switch(False)
        until(lambda: {process_state(pid) for pid in mine} == {"T"})
    assert not children() - before
    with neighbors(0) as nothing:
        assert nothing is None


def test_neighbors_end_with_a_killed_measurement() -> None:
    """Stopped ones, too."""
    probe = (
        "import os, signal\nfrom pathlib import Path\nfrom polarcast.hpc.perf.busy import neighbors\n"
        "with neighbors(1):\n"
        "    print(Path(f'/proc/self/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: process_state(int(done.stdout)) in ("", "Z"))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline


def test_json_is_printed_alone_beside_neighbors() -> None:
    """On two windows and two thresholds: eleven windows take the compared libraries many seconds."""
    program = (
        "from polarcast.hpc.perf import scores\n"
        "scores.WINDOWS, scores.THRESHOLDS, scores._LEAST_SECONDS = (3, 9), (1.0, 5.0), 0.05\n"
        "from polarcast.hpc.cli.app import main\nmain()"
    )
    command = ["perf", "scores", "--size", "32", "--leads", "1", "--rounds", "1", "--busy", "1", "--json"]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, check=True)
    record = json.loads(done.stdout)
    assert record["neighbors"] == 1
    assert record["ratios"].keys() == record["busy_ratios"].keys()
    assert all(row["busy"]["value"] > 0 for row in record["rows"])


def test_loader_is_compared_with_floor_and_webdataset(tmp_path: Path) -> None:
    spec = LoaderSpec(
        events=2, frames_per_event=8, size=32, frames=4, batch=2, batches=2, rest_seconds=0, least_seconds=0
    )
    record = json.loads(json.dumps(measure_loader(tmp_path, spec, rounds=1).as_record()))
    names = [row["name"] for row in record["rows"]]
    assert names[:2] == [FLOOR, MAPPED]
    assert sum("webdataset" in name for name in names) == 4
    assert all(row["value"] > 0 for row in record["rows"][:-1])
    assert record["ratios"][f"{MAPPED} / {FLOOR}"] == pytest.approx(
        record["rows"][1]["value"] / record["rows"][0]["value"]
    )
    assert [row["unit"] for row in record["rows"][-2:]] == ["s", "MiB"]


def test_writer_is_compared_with_tar_of_as_many_bytes(tmp_path: Path) -> None:
    measured = measure_writer(tmp_path, WriterSpec(events=3, frames_per_event=3, size=32), rounds=1, workers=1)
    assert [row.name for row in measured.rows] == ["polarcast data shard, 1 workers", TAR, SYNCED]
    [shard] = (tmp_path / "shards").glob("*.tar")
    # tar also has entries for folders.
    assert abs(shard.stat().st_size - (tmp_path / "plain.tar").stat().st_size) <= 10 * 10240


def test_spatial_scores_agree_with_the_compared_libraries() -> None:
    from polarcast.hpc.perf.scores import measure_scores

    measured = measure_scores(size=96, leads=1, rounds=1)
    assert [row.name for row in measured.rows] == [
        "FSS, polarcast", "FSS, pysteps", "FSS, scores",
        "tables, polarcast", "tables, pysteps on scipy", "tables, scores on scipy",
    ]  # fmt: skip
    assert all(row.value > 0 for row in measured.rows)
    assert float(measured.notes["largest difference, FSS, pysteps"]) < 1e-6
    assert float(measured.notes["largest difference, tables, scores on scipy"]) < 1e-6


def test_inference_is_compared_with_a_loop_of_as_many_evaluations() -> None:
    counted: list[nn.Module] = []

    def count(module: nn.Module, _: object) -> None:
        counted.extend([module] if isinstance(module, DenoisingUNet) else [])

    with nn.modules.module.register_module_forward_pre_hook(count):
        config = load_config("demo", ["model.widths=[4,8]", "train.threads=1"])
        measured = measure_inference(config, size=16, members=2, rounds=1)
    # Ours and the plain loop, each twice for the memory and twice for the time.
    assert len(counted) == 2 * 4 * 2 * 8
    names = [row.name for row in measured.rows]
    assert names[:2] == ["polarcast, U-Net", "plain torch, U-Net"]
    assert [row.unit for row in measured.rows] == ["frames/s"] * 4 + ["MiB"] * 4
    assert len(measured.ratios) == 2
