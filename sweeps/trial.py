"""A trial at work: an ordinary training for each arm, as processes of their own, watched through their logs."""

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
from polarcast.data.files import sole_writer, write_text
from polarcast.data.workers import end_with_parent
from polarcast.hpc.config.schema import RunConfig
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
_TOLD = 300
_NOT_FOR_RUNS = ("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
"""A trial is a job of its own within whatever starts it: no rank of another, and not what is requeued."""


class TrialFailed(Exception):
    """A training of the trial has ended badly; its message says how."""


@dataclass
class _Run:
    arm: str
    config: RunConfig
    folder: RunFolder
    process: "subprocess.Popen[bytes] | None" = None


class TrialAtWork:
    """Starts the trainings of a point, or continues them, and writes down what they come to.

    Arms are trained side by side and reported together, so that both always get the same steps.
    """

    def __init__(self, sweep: Path, space: Space, point: Point, member: int = -1, parent: str = "") -> None:
        """For the point's folder within the sweep's; nothing starts yet."""
        key = key_of(point, member, parent)
        self.folder = sweep / "trials" / key
        self._space = space
        configs = {arm: space.config(point, arm) for arm in space.arms}
        self._runs = [_Run(arm, config, RunFolder(self.folder / arm)) for arm, config in configs.items()]
        steps = next(iter(configs.values())).train.steps
        fresh = Trial(key, point, steps, time.time(), member=member, parent=parent)
        known = read_trial(self.folder) or fresh
        self._before, self._begun = known.seconds, time.monotonic()
        self._trial = replace(known, state=RUNNING, reason="", reports=[])
        self._held, self._is_claimed = ExitStack(), False

    @property
    def trial(self) -> Trial:
        """As it is now."""
        return self._trial

    @property
    def checkpoints(self) -> dict[str, Path]:
        """Arm → folder of its run's checkpoints."""
        return {run.arm: run.folder.checkpoints for run in self._runs}

    def claim(self) -> None:
        """Keep others off this trial, unless one is at work on it already."""
        with suppress(BadInput):
            self._held.enter_context(sole_writer(self.folder))
            self._is_claimed = True
            self._write()

    def reports(self) -> Generator[TrialReport, None, None]:
        """Work, and give what each validation came to; the runs save and end when this is closed early.

        Of a point that is at work elsewhere its end is waited for, and told again.

        Raises:
            TrialFailed: a training has failed; the trial is written down as such.
        """
        with self._held:
            while not self._is_claimed:
                time.sleep(_POLL_SECONDS)
                self.claim()
            self._begun = time.monotonic()
            try:
                for run in self._runs:
                    run.process = _start(run, self._space.file.processes)
                yield from self._follow()
                self._write(state=COMPLETE)
            except TrialFailed as failure:
                self._write(state=FAILED, reason=str(failure))
                raise
            finally:
                self._stop()

    def stop_early(self) -> None:
        """Others do better."""
        self._stop()
        self._write(state=STOPPED)

    def _stop(self) -> None:
        """Have the runs save and end."""
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
            # Whether they are at work is looked at first: what they wrote last must not be missed.
            states = [_is_at_work(run) for run in self._runs]
            for report in self._new_reports():
                self._trial.reports.append(report)
                self._write()
                yield report
            if not any(states):
                return
            time.sleep(_POLL_SECONDS)

    def _new_reports(self) -> list[TrialReport]:
        """Of steps that all arms have come to and that were not told yet."""
        by_arm = {run.arm: _validations(run.folder, self._space.objective) for run in self._runs}
        steps = sorted(set.intersection(*(set(values) for values in by_arm.values())))
        told = {arm: {step: values[step] for step in steps} for arm, values in by_arm.items()}
        return [
            TrialReport(
                step, fmean(values[step] for values in told.values()), {arm: v[step] for arm, v in told.items()}
            )
            for step in steps
            if step > self._trial.step
        ]

    def _write(self, **changes: object) -> None:
        spent = (time.monotonic() - self._begun) * len(self._runs) * self._space.file.processes
        self._trial = replace(self._trial, seconds=round(self._before + spent, 1), **changes)  # type: ignore[arg-type]
        write_trial(self.folder, self._trial)


def _start(run: _Run, processes: int) -> "subprocess.Popen[bytes] | None":
    """The training as a process that saves and ends with this one; None for one that is done."""
    if run.folder.is_trained:
        return None
    run.folder.path.mkdir(parents=True, exist_ok=True)
    source = run.folder.path.parent / f"{run.arm}.yaml"
    write_text(source, OmegaConf.to_yaml(OmegaConf.create(run.config.to_dict())))
    command = [sys.executable, "-m", "polarcast.hpc.cli", "train", str(source), "--out", str(run.folder.path)]
    with (run.folder.path / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [*command, "--processes", str(processes)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_RUNS)},
            preexec_fn=lambda: end_with_parent(signal.SIGTERM),
        )


def _is_at_work(run: _Run) -> bool:
    """Raises TrialFailed for a run that has ended before its end."""
    code = run.process.poll() if run.process else 0
    if code == ENDED_EARLY:
        raise TrialFailed(f"{run.arm}: was asked to stop")
    if code:
        raise TrialFailed(f"{run.arm}: {_reason(run, code)}")
    return code is None


def _reason(run: _Run, code: int) -> str:
    lines = (run.folder.path / "output.txt").read_text(errors="replace").strip().splitlines()
    if code == -signal.SIGKILL:
        return "killed, most likely for want of memory"
    return lines[-1][:_TOLD] if lines else f"ended with code {code}"


def _validations(run: RunFolder, objective: str) -> dict[int, float]:
    """Step → value of the objective there.

    Raises:
        TrialFailed: it is undefined.
    """
    told = {record["step"]: record for record in run.records() if record["event"] == "validation"}
    values = {
        step: record["loss"] if objective == "loss" else record.get("scores", {}).get(objective)
        for step, record in told.items()
    }
    if undefined := [step for step, value in values.items() if value is None]:
        raise TrialFailed(f"{objective} is undefined at step {undefined[0]}")
    return values


def check_data(space: Space) -> None:
    """Raises BadInput when the runs' shards are not there."""
    from polarcast.data.shards.manifest import read_manifest

    shards = space.config({}).data.shards
    if not shards:
        raise BadInput("no shards", "data.shards", "name them, or give the space data to make")
    read_manifest(shards)
