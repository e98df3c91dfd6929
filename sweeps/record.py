"""Trial records: chosen point, progress, objective, and final state."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from polarcast.data.files import read_limited, write_json
from polarcast.sweeps.parameters import Point

RUNNING, COMPLETE, STOPPED, REPLACED, FAILED = "running", "complete", "stopped", "replaced", "failed"
"""States of a trial. Stopped: by early stopping. Replaced: by a branch of a better member of the population."""
STATES = (RUNNING, COMPLETE, STOPPED, REPLACED, FAILED)
_FILE = "trial.json"
_log = logging.getLogger("polarcast")


@dataclass(frozen=True)
class TrialReport:
    """A validation that all arms of a trial have reached."""

    step: int
    value: float
    """Objective: the mean over the arms."""
    by_arm: dict[str, float]


@dataclass(frozen=True)
class Trial:
    """One point of the search, trained on each arm of the sweep."""

    key: str
    """Identifier; the name of its folder."""
    point: Point
    steps: int
    """Steps of each run, if not stopped early."""
    created: float
    """Seconds since 1970."""
    state: str = RUNNING
    reason: str = ""
    """Reason of a failure or replacement."""
    reports: list[TrialReport] = field(default_factory=list)
    seconds: float = 0.0
    """Process-seconds used so far, over all starts."""
    member: int = -1
    """Index in a population; -1 without one."""
    parent: str = ""
    """For a branch, `key@step` of the trial that it continues."""

    @property
    def step(self) -> int:
        """Step of the latest report; 0 before the first."""
        return self.reports[-1].step if self.reports else 0

    @property
    def value(self) -> float | None:
        """Objective of the latest report; None before the first validation."""
        return self.reports[-1].value if self.reports else None

    @property
    def saved_seconds(self) -> float:
        """Process-seconds saved by early stopping, extrapolated from the steps done."""
        if self.state != STOPPED or not self.step:
            return 0.0
        return self.seconds * (self.steps - self.step) / self.step


def key_of(point: Point, member: int = -1, parent: str = "") -> str:
    """Return the key of a trial: eight hexadecimal digits of a hash of its point and place in a population."""
    identity = [point, member, parent] if member >= 0 else point
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def write_trial(folder: Path, trial: Trial) -> None:
    """Write trial.json atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _FILE, asdict(trial))


def read_trial(folder: Path) -> Trial | None:
    """Read the trial of a folder; None if there is none, or if its record is damaged, which logs a warning once."""
    path = folder / _FILE
    try:
        content: dict[str, Any] = json.loads(read_limited(path).decode())
        reports = [TrialReport(**report) for report in content["reports"]]
        trial = Trial(**{**content, "reports": reports})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        _warn_of(path)
        return None
    if trial.key != folder.name or not _is_valid(trial):
        _warn_of(path)
        return None
    return trial


@cache
def _warn_of(path: Path) -> None:
    _log.warning("polarcast: %s is damaged; the sweep goes on without it", path)


def _is_valid(trial: Trial) -> bool:
    """Whether each value of a record has its type; numbers may be infinite, because a training may diverge."""
    texts = (trial.key, trial.state, trial.reason, trial.parent)
    numbers = (trial.created, trial.seconds, *(report.value for report in trial.reports))
    by_arm = [value for report in trial.reports for value in report.by_arm.values()]
    integers = (trial.steps, trial.member, *(report.step for report in trial.reports))
    return (
        all(isinstance(text, str) for text in texts)
        and trial.state in STATES
        and isinstance(trial.point, dict)
        and all(isinstance(number, int) and not isinstance(number, bool) for number in integers)
        and all(isinstance(number, int | float) and number == number for number in (*numbers, *by_arm))
    )


def read_trials(folder: Path) -> list[Trial]:
    """Read all trials of a sweep, oldest first; damaged ones are left out."""
    found: Iterator[Trial | None] = (read_trial(path.parent) for path in (folder / "trials").glob(f"*/{_FILE}"))
    return sorted((trial for trial in found if trial), key=lambda trial: (trial.created, trial.key))


def ranked(trials: Sequence[Trial], smaller_is_better: bool) -> list[Trial]:
    """Return the completed trials, best first."""
    done = [trial for trial in trials if trial.state == COMPLETE and trial.value is not None]
    return sorted(done, key=lambda trial: (trial.value or 0.0) * (1 if smaller_is_better else -1))
