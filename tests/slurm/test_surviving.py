"""Interrupted trainings on two real nodes: each ends with the losses of an uninterrupted run."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from polarcast.hpc.distributed.preemption import seconds_of
from tests.support.slurm_cluster.cluster import Cluster

from .conftest import DOWN_SECONDS, TRAIN_SECONDS, Training

pytestmark = pytest.mark.slurm
Submit = Callable[..., int]
Alone = Callable[..., dict[int, float]]


LONG = ("train.checkpoint_every=0", "train.steps=300", "train.validate_every=300")
"""A training that does not end while a busy machine looks for its processes."""


def finish(slurm: Cluster, job: int, training: Training, expected: dict[int, float], what: str, began: float) -> None:
    """Wait for the resumed job, compare its losses with the expected ones, and print its downtime."""
    starts = len(training.starts)
    training.wait_until(lambda: len(training.starts) > starts - (starts > 1), "it never resumed")
    downtime = time.monotonic() - began
    slurm.wait_for(job, "COMPLETED", TRAIN_SECONDS)
    last = max(expected)
    reached = training.losses[last]
    print(f"\n{what}: resumed after {downtime:.1f} s; last loss {reached:.9f}, expected {expected[last]:.9f}")
    assert [size for _, size in training.starts] == [2] * len(training.starts)
    assert training.losses == pytest.approx(expected, rel=1e-5, abs=1e-7)


def hold_at_step(slurm: Cluster, job: int, training: Training, step: int) -> tuple[str, int]:
    """Pause rank 1, so that training can't finish before the interruption; return its node and process id."""
    training.wait_for_step(1)
    node, process = slurm.task_process(job, rank=1)
    training.wait_for_step(step)
    slurm.run_on(node, "kill", "-STOP", process)
    return node, process


def wake_before_limit(slurm: Cluster, job: int, training: Training, node: str, process: int, left: int) -> None:
    """Continue a paused process `left` seconds before the time limit, unless Slurm's signal already has."""

    def is_time() -> bool:
        seconds = seconds_of(slurm.run("squeue", "--noheader", "--format=%L", "--jobs", job).strip())
        return bool(training.of("stopped")) or (seconds is not None and seconds <= left)

    training.wait_until(is_time, "the time limit did not approach")
    if not training.of("stopped"):
        slurm.run_on(node, "kill", "-CONT", process)


def signal_during_import(slurm: Cluster, job: int, training: Training) -> None:
    """Send the signal when Python has started, but has not set its handler yet."""
    slurm.wait_for(job, "RUNNING", DOWN_SECONDS)

    def is_python() -> bool:
        try:
            node, process = slurm.task_process(job, rank=1)
            return "python" in slurm.run_on(node, "cat", f"/proc/{process}/cmdline")
        except (LookupError, RuntimeError):  # not started yet
            return False

    training.wait_until(is_python, "Python never started", DOWN_SECONDS)
    assert not training.starts
    slurm.run("scancel", "--signal=USR2", job)


@pytest.mark.parametrize("by", ["sbatch", "submitit"])
def test_signaled_job_saves_and_is_requeued_once(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, by: str
) -> None:
    job = submit("train.checkpoint_every=0", by=by)
    if by == "sbatch":
        signal_during_import(slurm, job, training)
    training.wait_for_step(7)
    began = time.monotonic()
    slurm.run("scancel", "--signal=USR2", job)
    finish(slurm, job, training, alone(), f"SIGUSR2, {by}", began)
    [stopped] = training.of("stopped")
    assert stopped["reason"] == "SIGUSR2"
    assert training.starts[1][0] == stopped["step"] >= 7
    assert len(training.starts) == 2
    assert slurm.run("scontrol", "show", "job", job).count("Restarts=1 ") == 1


def test_preempted_job_resumes(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, tmp_path: Path
) -> None:
    job = submit(*LONG)
    hold_at_step(slurm, job, training, 5)
    began = time.monotonic()
    urgent = slurm.run("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", f"--chdir={tmp_path}",
                       "--output=urgent.log", "--wrap=sleep 1").strip()  # fmt: skip
    slurm.wait_for(int(urgent), "COMPLETED", TRAIN_SECONDS)
    finish(slurm, job, training, alone(300), "preempted", began)
    assert training.starts[1][0] == training.of("stopped")[0]["step"] >= 5


def test_job_at_its_time_limit_resumes(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, tmp_path: Path
) -> None:
    # Slurm checks every 30 s which jobs to signal: here 29 to 59 s after the start. The run also checks the limit.
    (tmp_path / "short.yaml").write_text("nodes: 2\ncpus_per_task: 1\ntime: '00:01:00'\nsignal_seconds: 1\n")
    job = submit(*LONG, cluster="short.yaml")
    node, process = hold_at_step(slurm, job, training, 3)
    wake_before_limit(slurm, job, training, node, process, left=7)
    training.wait_until(lambda: bool(training.of("stopped")), "the run was not stopped", DOWN_SECONDS)
    began = time.monotonic()
    assert training.of("stopped")[0]["reason"] in ("SIGUSR2", "the time limit")
    finish(slurm, job, training, alone(300), "time limit", began)
    assert training.starts[1][0] == training.of("stopped")[0]["step"] < 300


def test_cancelled_job_stays_cancelled(slurm: Cluster, submit: Submit, training: Training) -> None:
    job = submit("train.steps=5000", "train.checkpoint_every=0")
    training.wait_for_step(5)
    slurm.run("scancel", job)
    slurm.wait_for(job, "CANCELLED", DOWN_SECONDS)
    time.sleep(8)  # longer than a requeued job would have to wait
    assert slurm.state(job) == "CANCELLED"


def test_killed_rank_ends_the_job_and_the_same_command_resumes(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, tmp_path: Path
) -> None:
    job = submit()
    training.wait_for_step(1)
    node, process = slurm.task_process(job, rank=1)
    training.wait_for_step(8)
    began = time.monotonic()
    slurm.run_on(node, "kill", "-KILL", process)
    slurm.wait_for(job, "FAILED", DOWN_SECONDS)
    print(f"\nfailed {time.monotonic() - began:.1f} s after the kill")
    assert f"{node}: task 1: Killed" in (tmp_path / f"train-{job}.log").read_text()
    step = training.saved
    finish(slurm, submit(), training, alone(), "killed rank", began)
    assert training.starts[1][0] >= step >= 4


def test_hanging_rank_is_reported_and_the_same_command_resumes(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, tmp_path: Path
) -> None:
    job = submit("train.heartbeat_seconds=8")
    training.wait_for_step(1)
    node, process = slurm.task_process(job, rank=1)
    training.wait_for_step(8)
    began = time.monotonic()
    slurm.run_on(node, "kill", "-STOP", process)
    slurm.wait_for(job, "FAILED", 40)
    print(f"\nfailed {time.monotonic() - began:.1f} s after the rank was paused")
    message = f"rank 1 on {node} has stopped at step"
    assert message in (tmp_path / f"train-{job}.log").read_text()
    assert message in training.of("hang")[0]["told"]
    finish(slurm, submit(), training, alone(), "hang", began)


def test_job_resumes_after_a_node_failure(slurm: Cluster, submit: Submit, training: Training, alone: Alone) -> None:
    job = submit("train.steps=300", "train.validate_every=300")
    training.wait_for_step(8)
    began = time.monotonic()
    slurm.cut_power("n2")
    slurm.wait_for(job, "PENDING", 60)
    step = training.saved
    slurm.start("n2")
    finish(slurm, job, training, alone(300), "power loss", began)
    assert training.starts[1][0] >= step >= 8


def test_restart_of_slurmctld_does_not_affect_a_job(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone
) -> None:
    job = submit("train.steps=300", "train.validate_every=300")
    training.wait_for_step(8)
    slurm.restart_controller()
    slurm.wait_for(job, "COMPLETED", TRAIN_SECONDS)
    assert training.starts == [(0, 2)]
    assert training.losses == pytest.approx(alone(300), rel=1e-5, abs=1e-7)
