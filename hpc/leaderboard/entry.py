"""Leaderboard entries: a run's configuration, scores, cost and provenance."""

import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.files import read_limited
from polarcast.data.folder_kind import RUN_FILE
from polarcast.data.shards.health import file_sha256
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.spent import kilowatt_hours, process_hours
from polarcast.hpc.scores.records import Records, read_records
from polarcast.hpc.utils.text import printable
from polarcast.models.registry import get_model

SCORES_FILE, VERIFIED_FILE = "scores.parquet", "verified.json"
_SKIPPED = ("checkpoints", "ray", "archive", "shards")
_NEEDED = {
    "source revision": ("code", "commit"), "hash of uncommitted changes": ("code", "diff_sha256"),
    "data manifest": ("data", "digest"), "packages": ("packages",), "python": ("python",), "machine": ("machine",),
}  # fmt: skip
"""Keys of a complete provenance; an empty hash means no uncommitted changes."""
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""Errors of reading content that is not as expected."""
_REASON_LENGTH = 200


@dataclass(frozen=True)
class Entry:
    """One scored run."""

    path: Path

    @cached_property
    def config(self) -> RunConfig:
        """Configuration of the run."""
        return RunFolder(self.path).config()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the run; empty if unknown. Raises BadInput if it is damaged."""
        return _read_object(RunFolder(self.path).provenance_file)

    @cached_property
    def records(self) -> Records:
        """Score records of its test events. Raises BadInput if they are missing or damaged."""
        records = read_records(RunFolder(self.path).output.scores)
        events = records.events
        if not len(events) or events.dtype.kind not in "iu" or np.any(np.diff(events) <= 0):
            raise BadInput("is damaged: its events are not ascending numbers", self.path / SCORES_FILE)
        return records

    @cached_property
    def card(self) -> dict[str, Any]:
        """Content of its model card; empty without one, or if it is damaged, because it is informative only."""
        with suppress(BadInput):
            return _read_object(self.path / "card.json")
        return {}

    @property
    def name(self) -> str:
        """Name of its folder."""
        return printable(self.path.name)

    @property
    def is_external(self) -> bool:
        """Whether its forecasts were made by other software."""
        return get_model(self.config.model["name"]).external

    @property
    def is_own(self) -> bool:
        """Whether it was made on this machine: its provenance names this host, and it was trained or scored here."""
        is_here = self.provenance.get("host") == platform.node()
        return is_here and (self.is_external or bool(self.card))  # the card is the last file that training writes

    @property
    def model(self) -> str:
        """Kind of its model; of a model of other software its label, marked."""
        config = self.config.model
        if not self.is_external:
            return str(config["name"])
        return f"{_one_line(config['label'])} (external)" if config.get("label") else str(config["name"])

    @property
    def data(self) -> str:
        """Digest of the manifest that it was trained and tested on; empty if unknown."""
        return str(lookup(self.provenance, "data", "digest") or "")

    @property
    def missing(self) -> list[str]:
        """Parts of its provenance that are missing to reproduce it."""
        return [part for part, keys in _NEEDED.items() if lookup(self.provenance, *keys) is None]

    @cached_property
    def standing(self) -> str:
        """`verified` or `unverified` for an external run, empty for a local one.

        Raises:
            BadInput: the result of the verification is damaged.
        """
        if not os.path.lexists(self.path / VERIFIED_FILE):
            return ""
        result = _read_object(self.path / VERIFIED_FILE)
        if self.is_own and not self.is_external:
            return ""
        same = result.get("scores_sha256") == file_sha256(RunFolder(self.path).output.scores)
        return "verified" if result.get("verified") is True and same else "unverified"

    @cached_property
    def problem(self) -> str:
        """Reason why the run can't be ranked at all, with the file at fault; empty if all its parts can be read."""
        parts: dict[str, Callable[[], object]] = {
            RUN_FILE: lambda: self.config,
            "provenance.json": lambda: self.provenance,
            SCORES_FILE: lambda: self.records,
            VERIFIED_FILE: lambda: self.standing,
        }
        return next((reason for name, read in parts.items() if (reason := _problem_of(name, read))), "")

    @property
    def hours(self) -> float | None:
        """Process-hours of its training steps, from its log; None for a model that is not trained in steps."""
        with suppress(*_UNREADABLE):
            return process_hours(self._log)
        return None

    @property
    def kilowatt_hours(self) -> float | None:
        """Energy measured by the devices during training and validation in kWh; None without measurements."""
        with suppress(*_UNREADABLE):
            return kilowatt_hours(self._log)
        return None

    def cost(self, name: str) -> float | None:
        """Return a number of the model card; None if it is unknown or not a number."""
        value = self.card.get(name)
        with suppress(OverflowError):
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return value
        return None

    @cached_property
    def _log(self) -> list[dict[str, Any]]:
        return [record for record in RunFolder(self.path).records() if isinstance(record, dict)]


def find_entries(folders: Sequence[Path]) -> list[Entry]:
    """Find all runs in folders, at any depth, each once; trials of sweeps only if they are scored.

    A link is followed if it leads to a run. Links to other folders are not: they may lead anywhere, and in circles.

    Raises:
        BadInput: a folder is missing, or no folder contains a scored run.
    """
    if absent := [folder for folder in folders if not folder.is_dir()]:
        raise BadInput("no such folder", absent[0], "give folders of runs, such as runs/")
    found = {path.resolve() for folder in folders for path in _runs_in(folder)}
    if not any(os.path.lexists(path / SCORES_FILE) for path in found):
        raise BadInput("no scored run", folders[0], "score one: polarcast evaluate RUN")
    return [Entry(path) for path in sorted(found)]


def lookup(tree: Any, *keys: str) -> Any:
    """Return a value of nested objects; None if it is absent. An empty text counts as absent but for a hash."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return None if tree == "" and keys[-1] != "diff_sha256" else tree


def _runs_in(folder: Path) -> Iterator[Path]:
    if _is_run(folder):
        if os.path.lexists(folder / SCORES_FILE) or folder.parent.parent.name != "trials":
            yield folder
        return
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for path in inside:
        if path.name in _SKIPPED or path.name.startswith(".") or not os.path.isdir(path):
            continue
        if not os.path.islink(path):
            yield from _runs_in(path)
        elif _is_run(target := path.resolve()):
            yield from _runs_in(target)


def _is_run(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (SCORES_FILE, RUN_FILE))


def _problem_of(name: str, read: Callable[[], object]) -> str:
    try:
        read()
    except BadInput as error:
        if name in error.what:
            return _one_line(error.what)
        return _one_line(f"{name} {error.what}" if error.what.startswith("is ") else f"{name}: {error.what}")
    except Exception as error:  # any content must end this run only
        return _one_line(f"{name} is damaged ({type(error).__name__}: {error})")
    return ""


def _one_line(text: str) -> str:
    short = printable(" ".join(text.split()))
    return short if len(short) <= _REASON_LENGTH else f"{short[:_REASON_LENGTH]}…"


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; {} without a file. Raises BadInput if it is damaged."""
    if not os.path.lexists(path):
        return {}
    try:
        content = json.loads(read_limited(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise BadInput(f"{path.name} is damaged ({reason})", path) from None
    if not isinstance(content, dict):
        raise BadInput(f"{path.name} is damaged (not a JSON object)", path)
    return content
