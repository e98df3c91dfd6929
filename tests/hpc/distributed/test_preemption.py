"""Graceful stop and preflight, with real signals and processes; tests/slurm covers Slurm itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed.preemption import StopFlag, requeue, seconds_of
from polarcast.hpc.distributed.preflight import grouped, on_every_rank, preflight
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.folder import RunFolder
from tests.support import warm

SETTINGS = ["model.widths=[4,8]", "match_params=false", "train.global_batch=4", "train.steps=4000",
            "train.validate_every=4000", "train.log_every=1", "train.threads=1"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1:00", 60), ("00:15", 15), ("2:03:04", 7384), ("1-00:00:01", 86401), ("UNLIMITED", None), ("", None)],
)
def test_slurm_times_are_parsed(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_signal_sets_the_flag_and_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopFlag(World(), 60, env={}) as stop:
        assert stop.agreed() == ""
        os.kill(os.getpid(), number)
        assert stop.agreed() == number.name
    assert signal.getsignal(number) is before


def test_nothing_is_requeued_without_slurm() -> None:
    assert requeue(env={}) is False


@pytest.mark.multiprocess
@pytest.mark.parametrize(("processes", "number"), [(1, signal.SIGINT), (1, signal.SIGUSR2), (2, signal.SIGTERM)])
def test_signaled_run_saves_and_reports_how_to_resume(
    shards: Manifest, tmp_path: Path, processes: int, number: signal.Signals
) -> None:
    arguments = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS, "--out", str(tmp_path / "run")]
    # Tests that run in the background inherit an ignored SIGINT.
    start = (
        "import signal, sys, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sys.argv = sys.argv[1:]; runpy.run_module('polarcast.hpc.cli', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", start, "polarcast", *arguments, f"--processes={processes}"]
    process = warm.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    run = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 120
    while sum(r["event"] == "step" for r in run.records()) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    [stopped] = [r for r in run.records() if r["event"] == "stopped"]
    assert stopped["reason"] == number.name
    assert (run.checkpoints / f"step-{stopped['step']:08d}" / "sums.json").exists()
    assert f"saved step {stopped['step']} — run the same command to continue" in errors
    assert process.returncode == 143


def test_preflight_measures_the_nodes_and_rejects_a_missing_folder(tmp_path: Path) -> None:
    found = preflight_alone(tmp_path)
    assert found["free_gb"] > 0
    assert found["all_reduce_gb_per_s"] > 0
    with pytest.raises(BadInput, match="not visible on"):
        preflight_alone(tmp_path / "nowhere")


def test_processes_that_share_a_gpu_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polarcast.hpc.distributed.preflight._gpu", lambda: "7b0f")
    monkeypatch.setattr("polarcast.hpc.distributed.preflight.gather", lambda item, _: [item, item])
    with pytest.raises(BadInput, match="2 processes can't share 1 GPU — start one process per GPU"):
        preflight(tmp_path, World(size=2))


def preflight_alone(folder: Path) -> dict:
    from polarcast.hpc.distributed.process_group import join

    join(World(), even_alone=True)
    return preflight(folder, World())


def test_hosts_are_grouped_by_version() -> None:
    assert grouped(["n1", "n2", "n3"], ["2.9", "2.13", "2.9"]) == {"2.9": ["n1", "n3"], "2.13": ["n2"]}


def test_error_of_all_ranks_is_raised_unchanged() -> None:
    def fail() -> None:
        raise BadInput("no such file", "here", "look there")

    with pytest.raises(BadInput, match=r"^here: no such file — look there$"):
        on_every_rank(fail, World())
