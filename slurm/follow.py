"""Follow a job: its Slurm state and the progress of its training."""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
_CLIENT_SECONDS = 60


@dataclass(frozen=True)
class View:
    """State and progress of a job at one moment."""

    job: str
    state: str
    """Slurm's job state, with the reason of a pending job."""
    step: int = 0
    steps: int = 0
    """Total steps; 0 if unknown."""
    loss: float | None = None
    samples_per_second: float | None = None
    starts: int = 0
    """Number of starts and resumes of the training."""
    validation: float | None = None

    @property
    def line(self) -> str:
        """One-line summary."""
        parts = [f"job {self.job} {self.state.lower()}"]
        if self.starts:
            parts.append(f"step {self.step}" + (f" of {self.steps}" if self.steps else ""))
            parts += [f"loss {self.loss:.4f}"] if self.loss is not None else []
            parts += [f"validation {self.validation:.4f}"] if self.validation is not None else []
            parts += [f"{self.samples_per_second:.1f} samples/s"] if self.samples_per_second else []
            parts += [f"{self.starts - 1} restart{'s' * (self.starts != 2)}"] if self.starts > 1 else []
        return ", ".join(parts)


def follow(job: str, run: Path | None, show: Callable[[View], None], seconds: float = 2.0) -> str:
    """Show a job until it ends; return its final state."""
    while True:
        state, reason = job_state(job)
        shown = f"{state} ({reason})" if state == "PENDING" and reason not in ("", "None") else state
        show(observe(job, shown, run))
        if state in ENDED:
            return state
        time.sleep(seconds)


def job_state(job: str) -> tuple[str, str]:
    """Return state and reason from squeue, else the state from scontrol; COMPLETED if neither lists the job."""
    output = _client("squeue", "--noheader", "--states=all", "--format=%T %r", "--jobs", job)
    if output:
        state, _, reason = output.splitlines()[0].partition(" ")
        return state, reason
    for word in _client("scontrol", "show", "job", job).split():
        if word.startswith("JobState="):
            return word.removeprefix("JobState="), ""
    return "COMPLETED", ""


def observe(job: str, state: str, run: Path | None) -> View:
    """Combine the job's state with the latest records of its run's log."""
    records = _records(run / "log.jsonl") if run else []
    steps, size = _steps_and_batch(run / "config.yaml") if run else (0, 0)
    last: dict[str, dict[str, Any]] = {record["event"]: record for record in records}
    starts = sum(record["event"] == "start" for record in records)
    step = last.get("step", {})
    rate = size / step["seconds"] if size and step.get("seconds") else None
    loss, validation = step.get("loss"), last.get("validation", {}).get("loss")
    return View(job, state, step.get("step", 0), steps, loss, rate, starts, validation)


def _steps_and_batch(path: Path) -> tuple[int, int]:
    """Return total steps and global batch size from a run's configuration; 0, 0 if it can't be read."""
    import yaml

    try:
        train = yaml.safe_load(path.read_text("utf-8"))["train"]
        return int(train["steps"]), int(train["global_batch"])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return 0, 0


def _records(path: Path) -> list[dict[str, Any]]:
    records = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError):  # a torn line
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict) and "event" in record]


def _client(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_CLIENT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
