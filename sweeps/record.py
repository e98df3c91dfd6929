"""What is written of a trial: what was chosen, how far it came, what it was worth, and why it ended."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from polarcast.data.files import write_json
from polarcast.sweeps.parameters import Point

RUNNING, COMPLETE, STOPPED, REPLACED, FAILED = "running", "complete", "stopped", "replaced", "failed"
"""Stopped: early, because others did better. Replaced: by a branch of one that does, as members of a population are."""
_FILE = "trial.json"


@dataclass(frozen=True)
class TrialReport:
    """A validation that all arms of a trial have come to."""

    step: int
    value: float
    """Of the objective: the mean of the arms'."""
    by_arm: dict[str, float]


@dataclass(frozen=True)
class Trial:
    """A point that is tried, on each arm of the sweep."""

    key: str
    """Names its folder."""
    point: Point
    steps: int
    """Of each of its runs when it is not stopped."""
    created: float
    """Seconds since 1970."""
    state: str = RUNNING
    reason: str = ""
    """Why it failed."""
    reports: list[TrialReport] = field(default_factory=list)
    seconds: float = 0.0
    """Spent so far, each process counted, over all its starts."""
    member: int = -1
    """Of a population, its place in it."""
    parent: str = ""
    """Of a branch, `key@step` of what it goes on from."""

    @property
    def step(self) -> int:
        """How far it has come."""
        return self.reports[-1].step if self.reports else 0

    @property
    def value(self) -> float | None:
        """The objective where it has come to; None before the first validation."""
        return self.reports[-1].value if self.reports else None

    @property
    def saved_seconds(self) -> float:
        """What stopping it early has saved, as its own steps took."""
        if self.state != STOPPED or not self.step:
            return 0.0
        return self.seconds * (self.steps - self.step) / self.step


def key_of(point: Point, member: int = -1, parent: str = "") -> str:
    """Eight hexadecimal digits that a point is known by, and its place in a population."""
    named = [point, member, parent] if member >= 0 else point
    return sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:8]


def write_trial(folder: Path, trial: Trial) -> None:
    """Write trial.json, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _FILE, asdict(trial))


def read_trial(folder: Path) -> Trial | None:
    """The trial of a folder; None where there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / _FILE).read_text())
    except FileNotFoundError:
        return None
    return Trial(**{**content, "reports": [TrialReport(**report) for report in content["reports"]]})


def read_trials(folder: Path) -> list[Trial]:
    """All trials of a sweep, the oldest first."""
    found: Iterator[Trial | None] = (read_trial(path.parent) for path in (folder / "trials").glob(f"*/{_FILE}"))
    return sorted((trial for trial in found if trial), key=lambda trial: (trial.created, trial.key))


def ranked(trials: Sequence[Trial], smaller_is_better: bool) -> list[Trial]:
    """Those that came to their end, the best first."""
    done = [trial for trial in trials if trial.state == COMPLETE and trial.value is not None]
    return sorted(done, key=lambda trial: (trial.value or 0.0) * (1 if smaller_is_better else -1))
