"""Run a trial: one training process per arm, monitored through its log."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from omegaconf import OmegaConf

from polarcast.data.errors import BadInput
from polarcast.data.files import has_writer, sole_writer, write_private
from polarcast.data.secrets import redacted
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.launch import die_with_parent
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.utils.exit_codes import ENDED_EARLY
from polarcast.sweeps.parameters import Point
from polarcast.sweeps.record import (
    COMPLETE,
    FAILED,
    RUNNING,
    STOPPED,
    Trial,
    TrialReport,
    key_of,
    read_trial,
    write_trial,
)
from polarcast.sweeps.space import Space

_POLL_SECONDS = 0.2
_SECONDS_TO_SAVE = 120
_REASON_LENGTH = 300
_NOT_FOR_RUNS = ("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "RAY_AUTH_")
"""Prefixes of variables that a trial must not inherit: it is no rank of its parent, no job to requeue, no part of Ray.
"""


class TrialFailed(Exception):
    """A training of the trial failed; the message gives the reason."""


@dataclass
class _Run:
    arm: str
    config: RunConfig
    folder: RunFolder
    process: "subprocess.Popen[bytes] | None" = None


class TrialRunner:
    """Start or resume the trainings of a point, and record their results.

    Arms are trained in parallel and reported together, so that both always get the same steps.
    """

    def __init__(self, sweep: Path, space: Space, point: Point, member: int = -1, parent: str = "") -> None:
        """Read the trial's record from its folder, or create one; start nothing yet."""
        key = key_of(point, member, parent)
        self.folder = sweep / "trials" / key
        self._space = space
        configs = {arm: space.config(point, arm) for arm in space.arms}
        self._runs = [_Run(arm, config, RunFolder(self.folder / arm)) for arm, config in configs.items()]
        steps = next(iter(configs.values())).train.steps
        fresh = Trial(key, point, steps, time.time(), member=member, parent=parent)
        known = read_trial(self.folder) or fresh
        self._before, self._started = known.seconds, time.monotonic()
        self._trial = replace(known, state=RUNNING, reason="", reports=[])
        self._lock, self._is_claimed = ExitStack(), False

    @property
    def trial(self) -> Trial:
        """Current record of the trial."""
        return self._trial

    @property
    def checkpoints(self) -> dict[str, Path]:
        """Arm → checkpoint folder of its run."""
        return {run.arm: run.folder.checkpoints for run in self._runs}

    def claim(self) -> None:
        """Lock this trial for this process, unless another process is training it."""
        with suppress(BadInput):
            self._lock.enter_context(sole_writer(self.folder))
            self._is_claimed = True
            self._write()

    def reports(self) -> Generator[TrialReport, None, None]:
        """Train, and yield the report of each validation; closing the generator early makes the runs save and end.

        If another process trains the point, wait for it to end, then report its results.

        Raises:
            TrialFailed: a training failed; the trial is recorded as failed.
        """
        with self._lock:
            while not self._is_claimed:
                time.sleep(_POLL_SECONDS)
                self.claim()
            self._started = time.monotonic()
            try:
                for run in self._runs:
                    _wait_for_writer(run.folder.path)
                    run.process = _start(run, self._space.file.processes)
                yield from self._follow()
                self._write(state=COMPLETE)
            except TrialFailed as failure:
                self._write(state=FAILED, reason=str(failure))
                raise
            finally:
                self._stop()

    def stop_early(self) -> None:
        """Stop the runs, and record the trial as stopped early."""
        self._stop()
        self._write(state=STOPPED)

    def _stop(self) -> None:
        """Make the runs save and end."""
        alive = [run.process for run in self._runs if run.process and run.process.poll() is None]
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(_SECONDS_TO_SAVE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _follow(self) -> Generator[TrialReport, None, None]:
        while True:
            # Check the processes before reading the logs: otherwise the last records could be missed.
            states = [_is_running(run) for run in self._runs]
            for report in self._new_reports():
                self._trial.reports.append(report)
                self._write()
                yield report
            if not any(states):
                return
            time.sleep(_POLL_SECONDS)

    def _new_reports(self) -> list[TrialReport]:
        """Return the reports of steps that all arms have reached and that were not reported yet."""
        by_arm = {run.arm: _validations(run.folder, self._space.objective) for run in self._runs}
        steps = sorted(set.intersection(*(set(values) for values in by_arm.values())))
        common = {arm: {step: values[step] for step in steps} for arm, values in by_arm.items()}
        return [
            TrialReport(
                step, fmean(values[step] for values in common.values()), {arm: v[step] for arm, v in common.items()}
            )
            for step in steps
            if step > self._trial.step
        ]

    def _write(self, **changes: object) -> None:
        spent = (time.monotonic() - self._started) * len(self._runs) * self._space.file.processes
        self._trial = replace(self._trial, seconds=round(self._before + spent, 1), **changes)  # type: ignore[arg-type]
        write_trial(self.folder, self._trial)


def _wait_for_writer(folder: Path) -> None:
    """Wait while a training of a killed sweep still saves; one that does not end is reported by the next one."""
    deadline = time.monotonic() + _SECONDS_TO_SAVE
    while has_writer(folder) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _start(run: _Run, processes: int) -> "subprocess.Popen[bytes] | None":
    """Start the training as a process that saves and ends with this one; return None if it is already trained."""
    if run.folder.is_trained:
        return None
    run.folder.path.mkdir(parents=True, exist_ok=True)
    source = run.folder.path.parent / f"{run.arm}.yaml"
    write_private(source, OmegaConf.to_yaml(OmegaConf.create(run.config.to_dict())))
    command = [sys.executable, "-m", "polarcast.hpc.cli", "train", str(source), "--out", str(run.folder.path)]
    with (run.folder.path / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [*command, "--processes", str(processes)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_RUNS)},
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )


def _is_running(run: _Run) -> bool:
    """Whether the run's process is alive. Raises TrialFailed if it ended early or with an error."""
    code = run.process.poll() if run.process else 0
    if code == ENDED_EARLY:
        raise TrialFailed(f"{run.arm}: stopped by a signal")
    if code:
        raise TrialFailed(f"{run.arm}: {_reason(run, code)}")
    return code is None


def _reason(run: _Run, code: int) -> str:
    lines = (run.folder.path / "output.txt").read_text("utf-8", "replace").strip().splitlines()
    if code == -signal.SIGKILL:
        return "killed, most likely out of memory"
    return redacted(lines[-1])[:_REASON_LENGTH] if lines else f"exited with code {code}"


def _validations(run: RunFolder, objective: str) -> dict[int, float]:
    """Return step → objective, from the validation records of a run.

    Raises:
        TrialFailed: the objective is undefined at a step.
    """
    records = {record["step"]: record for record in run.records() if record["event"] == "validation"}
    values = {
        step: record.get("loss") if objective == "loss" else record.get("scores", {}).get(objective)
        for step, record in records.items()
    }
    defined = {step: float(value) for step, value in values.items() if value is not None and not math.isnan(value)}
    if undefined := sorted(values.keys() - defined.keys()):
        raise TrialFailed(f"{objective} is undefined at step {undefined[0]}")
    return defined
