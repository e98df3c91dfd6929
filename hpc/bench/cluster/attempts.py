"""Attempts at a cell: when it was started, how it ended, and whether it is tried again.

A cell that fails is tried once more. A cell that is killed, by a lost node for example, continues from its last
checkpoint; it counts as a failure only if it got no further than the attempt before.
"""

import json
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from polarcast.data.errors import WorkFailed
from polarcast.data.files import read_limited
from polarcast.hpc.bench.failures import FILE as FAILED_FILE
from polarcast.hpc.bench.failures import last_lines, write_failure
from polarcast.hpc.bench.worker import ERROR, OUTPUT, REASON
from polarcast.hpc.utils.exit_codes import ENDED_EARLY, OK

FILE = "attempts.jsonl"
MOST_FAILURES = 2
_STOPPED = (OK, ENDED_EARLY, -signal.SIGTERM)
"""Exit codes of a cell that is complete, or that saved its progress when it was asked to."""


class AttemptRecorder:
    """Record the attempts at cells in their run folders."""

    def started(self, folder: Path) -> None:
        """Record that a cell starts, and from which step."""
        self._add(folder, event="start", step=saved_step(folder), job=os.environ.get("SLURM_JOB_ID", ""))

    def ended(self, folder: Path, code: int) -> None:
        """Record that a cell has ended, with its exit code; a complete one has not failed."""
        self._add(folder, event="end", step=saved_step(folder), code=code)
        if code == OK:
            (folder / FAILED_FILE).unlink(missing_ok=True)

    def _add(self, folder: Path, **record: object) -> None:
        with (folder / FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**record, "time": round(time.time(), 2)}) + "\n")


def saved_step(folder: Path) -> int:
    """Return the step of the newest checkpoint in a run folder; 0 without one."""
    steps = [name.removeprefix("step-") for name in _names(folder / "checkpoints") if name.startswith("step-")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def attempts_at(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a cell's attempts; torn lines are left out."""
    found = []
    with suppress(OSError):
        for line in read_limited(folder / FILE).decode(errors="replace").splitlines():
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("step"), int):
                    found.append(record)
    return found


def count_failures(records: Sequence[Mapping[str, Any]], step: int) -> int:
    """Return how many attempts count as failures.

    Args:
        records: Starts and ends of all attempts, none of which runs now.
        step: Step of the newest checkpoint.
    """
    failures = 0
    starts = [place for place, record in enumerate(records) if record.get("event") == "start"]
    for place, following in pairwise([*starts, len(records)]):
        end = next((r for r in records[place + 1 : following] if r.get("event") == "end"), None)
        reached = records[following]["step"] if following < len(records) else step
        code = end.get("code") if end else -signal.SIGKILL
        if code in _STOPPED:
            continue
        is_killed = not isinstance(code, int) or code < 0
        failures += not is_killed or reached <= records[place]["step"]
    return failures


def was_killed(folder: Path) -> bool:
    """Return whether the last attempt at a cell has a start, but no end."""
    records = attempts_at(folder)
    return bool(records) and records[-1].get("event") == "start"


def starts_of(folder: Path) -> int:
    """Return how often a cell was started."""
    return sum(record.get("event") == "start" for record in attempts_at(folder))


def has_failed(folder: Path) -> bool:
    """Return whether a cell has failed for good."""
    return (folder / FAILED_FILE).is_file()


def give_up(folder: Path) -> bool:
    """Record a failure if a cell has failed as often as it may; return whether it is not to be tried again."""
    if count_failures(attempts_at(folder), saved_step(folder)) < MOST_FAILURES:
        return False
    write_failure(folder, _reason(folder), starts_of(folder))
    return True


def try_anew(folder: Path) -> None:
    """Forget the attempts at a cell: whoever submits it again wants it tried."""
    for name in (FILE, FAILED_FILE):
        (folder / name).unlink(missing_ok=True)


def _reason(folder: Path) -> str:
    """Return why the last attempt at a cell failed, in one line."""
    for name in (ERROR, REASON):
        with suppress(OSError):
            if told := read_limited(folder / name).decode(errors="replace").strip():
                return told
    last = attempts_at(folder)[-1]
    code = last.get("code") if last.get("event") == "end" else None
    if isinstance(code, int) and code > 0:
        return _error_in(last_lines(folder / OUTPUT)) or f"ended with exit code {code}"
    name = signal.Signals(-code).name if isinstance(code, int) and -code in set(signal.Signals) else "its job"
    return f"killed by {name} before it got further" if code else "its job was killed before it got further"


def _error_in(lines: Sequence[str]) -> str:
    """Return the message of the error with which a traceback ends; empty if the lines end otherwise."""
    found = re.fullmatch(r"(?:\w+\.)*(\w+): (.+)", lines[-1]) if lines else None
    if not found:
        return ""
    return found[2] if found[1] == WorkFailed.__name__ else f"{found[1]}: {found[2]}"
