"""What befalls a training on two real nodes, submitted by `polarcast submit`: each ends with the undisturbed losses."""

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


def finish(slurm: Cluster, job: int, training: Training, expected: dict[int, float], what: str, began: float) -> None:
    """Wait for the job that goes on, hold its losses against the undisturbed ones, and tell how long it was away."""
    known = len(training.starts)
    training.wait_until(lambda: len(training.starts) > known - (known > 1), "it never went on")
    back = time.monotonic() - began
    slurm.wait_for(job, "COMPLETED", TRAIN_SECONDS)
    last = max(expected)
    print(f"\n{what}: back after {back:.1f} s; last loss {training.losses[last]:.9f}, undisturbed {expected[last]:.9f}")
    assert [size for _, size in training.starts] == [2] * len(training.starts)
    assert training.losses == pytest.approx(expected, rel=1e-5, abs=1e-7)


def hold_at_step(slurm: Cluster, job: int, training: Training, step: int) -> tuple[str, int]:
    """Stop a rank, so that no machine is too fast for what is to come; node and process id of it."""
    training.wait_for_step(1)
    node, process = slurm.task_process(job, rank=1)
    training.wait_for_step(step)
    slurm.run_on(node, "kill", "-STOP", process)
    return node, process


def wake_before_limit(slurm: Cluster, job: int, training: Training, node: str, process: int, left: int) -> None:
    """Let a stopped process go on so many seconds before its job's time limit, if Slurm's warning has not woken it."""

    def is_time() -> bool:
        seconds = seconds_of(slurm.run("squeue", "--noheader", "--format=%L", "--jobs", job).strip())
        return bool(training.of("stopped")) or (seconds is not None and seconds <= left)

    training.wait_until(is_time, "its time never came")
    if not training.of("stopped"):
        slurm.run_on(node, "kill", "-CONT", process)


def warn_while_it_imports(slurm: Cluster, job: int, training: Training) -> None:
    """Send the warning as soon as there is a Python that could hear it, but does not yet."""
    slurm.wait_for(job, "RUNNING", DOWN_SECONDS)

    def is_python() -> bool:
        try:
            node, process = slurm.task_process(job, rank=1)
            return "python" in slurm.run_on(node, "cat", f"/proc/{process}/cmdline")
        except (LookupError, RuntimeError):  # not started yet
            return False

    training.wait_until(is_python, "it never became a Python", DOWN_SECONDS)
    assert not training.starts
    slurm.run("scancel", "--signal=USR2", job)


@pytest.mark.parametrize("by", ["sbatch", "submitit"])
def test_a_warned_job_saves_where_it_is_and_goes_back_once(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, by: str
) -> None:
    job = submit("train.checkpoint_every=0", by=by)
    if by == "sbatch":
        warn_while_it_imports(slurm, job, training)
    training.wait_for_step(7)
    began = time.monotonic()
    slurm.run("scancel", "--signal=USR2", job)
    finish(slurm, job, training, alone(), f"SIGUSR2, {by}", began)
    [stopped] = training.of("stopped")
    assert stopped["reason"] == "SIGUSR2"
    assert training.starts[1][0] == stopped["step"] >= 7
    assert len(training.starts) == 2
    assert slurm.run("scontrol", "show", "job", job).count("Restarts=1 ") == 1


def test_a_job_makes_room_for_one_of_higher_priority_and_goes_on(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, tmp_path: Path
) -> None:
    job = submit("train.checkpoint_every=0")
    hold_at_step(slurm, job, training, 5)
    began = time.monotonic()
    urgent = slurm.run("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", f"--chdir={tmp_path}",
                       "--output=urgent.log", "--wrap=sleep 1").strip()  # fmt: skip
    slurm.wait_for(int(urgent), "COMPLETED", TRAIN_SECONDS)
    finish(slurm, job, training, alone(), "preempted", began)
    assert training.starts[1][0] == training.of("stopped")[0]["step"] >= 5


def test_a_job_that_comes_to_its_time_limit_goes_on(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, tmp_path: Path
) -> None:
    # Slurm looks every 30 s for whom to warn: here 29 to 59 s after the start. The run by itself minds the limit, too.
    (tmp_path / "short.yaml").write_text("nodes: 2\ncpus_per_task: 1\ntime: '00:01:00'\nsignal_seconds: 1\n")
    job = submit("train.checkpoint_every=0", cluster="short.yaml")
    node, process = hold_at_step(slurm, job, training, 3)
    wake_before_limit(slurm, job, training, node, process, left=7)
    training.wait_until(lambda: bool(training.of("stopped")), "it was not stopped", DOWN_SECONDS)
    began = time.monotonic()
    assert training.of("stopped")[0]["reason"] in ("SIGUSR2", "the time limit")
    finish(slurm, job, training, alone(), "time limit", began)
    assert training.starts[1][0] == training.of("stopped")[0]["step"] < 60


def test_a_cancelled_job_saves_and_stays_cancelled(slurm: Cluster, submit: Submit, training: Training) -> None:
    job = submit("train.steps=5000", "train.checkpoint_every=0")
    training.wait_for_step(5)
    slurm.run("scancel", job)
    slurm.wait_for(job, "CANCELLED", DOWN_SECONDS)
    time.sleep(8)  # longer than a job that was put back would have to wait
    assert slurm.state(job) == "CANCELLED"


def test_a_killed_rank_ends_the_job_and_the_same_command_continues_it(
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


def test_a_rank_that_hangs_is_named_and_the_same_command_continues(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone, tmp_path: Path
) -> None:
    job = submit("train.heartbeat_seconds=8")
    training.wait_for_step(1)
    node, process = slurm.task_process(job, rank=1)
    training.wait_for_step(8)
    began = time.monotonic()
    slurm.run_on(node, "kill", "-STOP", process)
    slurm.wait_for(job, "FAILED", 40)
    print(f"\nfailed {time.monotonic() - began:.1f} s after it was stopped")
    told = f"rank 1 on {node} has stopped at step"
    assert told in (tmp_path / f"train-{job}.log").read_text()
    assert told in training.of("hang")[0]["told"]
    finish(slurm, submit(), training, alone(), "hang", began)


def test_a_node_that_loses_its_power_is_waited_for(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone
) -> None:
    job = submit("train.steps=300", "train.validate_every=300")
    training.wait_for_step(8)
    began = time.monotonic()
    slurm.cut_power("n2")
    slurm.wait_for(job, "PENDING", 60)
    step = training.saved
    slurm.start("n2")
    finish(slurm, job, training, alone(300), "power loss", began)
    assert training.starts[1][0] >= step >= 8


def test_a_job_does_not_notice_that_slurmctld_is_restarted(
    slurm: Cluster, submit: Submit, training: Training, alone: Alone
) -> None:
    job = submit("train.steps=300", "train.validate_every=300")
    training.wait_for_step(8)
    slurm.restart_controller()
    slurm.wait_for(job, "COMPLETED", TRAIN_SECONDS)
    assert training.starts == [(0, 2)]
    assert training.losses == pytest.approx(alone(300), rel=1e-5, abs=1e-7)
