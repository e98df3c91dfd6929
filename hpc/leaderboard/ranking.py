"""Runs in the order of a score, and which of them can't be told from the first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.hpc.leaderboard.entry import Entry
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.paired import POOLED, Sums, compared, of_one
from polarcast.models.registry import get_model

USUAL = {"qpe": "rmse", "nowcast": "csi@threshold=35"}
"""The score that a task's runs are ranked by, unless another one is asked for."""


@dataclass(frozen=True)
class Place:
    """A run's place on a board.

    Attributes:
        entry: The run.
        rank: By value.
        value: The score on all events.
        low: Lower end of its 95% interval; NaN where there is none.
        high: Upper end.
        is_tied: Whether it is the first, or can't be told from it: the interval of their difference contains zero.
        events: How many it was scored on.
    """

    entry: Entry
    rank: int
    value: float
    low: float
    high: float
    is_tied: bool
    events: int

    def as_row(self) -> dict[str, Any]:
        """For tables and JSON."""
        entry = self.entry
        return {
            "rank": self.rank, "run": entry.name, "model": entry.config.model["name"], "arm": entry.config.arm,
            "seed": entry.config.seed,
            "value": _number(self.value), "low": _number(self.low), "high": _number(self.high),
            "tied": self.is_tied, "events": self.events, "parameters": entry.card.get("parameters"),
            "training_flops": entry.card.get("training_flops"), "forecast_flops": entry.card.get("forecast_flops"),
            "process_hours": _number(entry.hours), "kilowatt_hours": _number(entry.kilowatt_hours),
            "standing": entry.standing, "path": str(entry.path),
        }  # fmt: skip


@dataclass(frozen=True)
class Board:
    """Runs of one task on one manifest.

    Attributes:
        task: qpe or nowcast.
        data: Digest of the manifest.
        archive: What the data are called.
        score: What they are ranked by.
        places: The best first.
        apart: Runs that can't be ranked, and why.
    """

    task: str
    data: str
    archive: str
    score: Score
    places: list[Place]
    apart: list[tuple[Entry, str]]

    @property
    def title(self) -> str:
        """Of its table."""
        return f"{self.task} on {self.archive or 'unknown data'} ({self.data[:8] or 'no manifest'})"

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": self.task, "data": self.data, "archive": self.archive, "split": "test", "score": str(self.score),
            "places": [place.as_row() for place in self.places],
            "not_ranked": [{"run": entry.name, "path": str(entry.path), "reason": why} for entry, why in self.apart],
        }  # fmt: skip


def make_boards(entries: Sequence[Entry], score: Score | None = None) -> list[Board]:
    """A board for each task and manifest: only what was scored on the same events is compared.

    Args:
        entries: Runs.
        score: What they are ranked by; the task's usual one by default.

    Raises:
        BadInput: no run has this score.
    """
    from polarcast.hpc.scores.query import parse_score

    keys = list(dict.fromkeys((entry.config.task, entry.data) for entry in entries))
    boards = []
    for task, data in keys:
        of_key = [entry for entry in entries if (entry.config.task, entry.data) == (task, data)]
        boards.append(_board(task, data, of_key, score or parse_score(USUAL[task])))
    if score and not any(board.places for board in boards):
        raise BadInput(
            f"no run has {score}", "--score", "see the scores of one with: polarcast evaluate RUN --scores all"
        )
    return boards


def _board(task: str, data: str, entries: Sequence[Entry], score: Score) -> Board:
    apart = [(entry, f"unknown: {', '.join(entry.missing)}") for entry in entries if entry.missing]
    known = [entry for entry in entries if not entry.missing]
    reasons = {entry: _reason(entry) for entry in known}
    apart += [(entry, reason) for entry, reason in reasons.items() if reason]
    ranked: list[tuple[Entry, Records]] = []
    for entry in (entry for entry, reason in reasons.items() if not reason):
        try:
            score.sums(entry.records)
        except BadInput:
            apart.append((entry, f"has no {score}"))
            continue
        ranked.append((entry, entry.records))
    # What most were scored on; a run that was scored on part of it would be compared unfairly.
    usual, _ = max(Counter(tuple(records.events) for _, records in ranked).items(), key=lambda n: n[1], default=((), 0))
    kept = [(entry, records) for entry, records in ranked if tuple(records.events) == usual]
    apart += [(entry, "scored on other events") for entry, records in ranked if tuple(records.events) != usual]
    archive = next((_archive_of(entry) for entry in entries), "")
    return Board(task, data, archive, score, _places(kept, score), apart)


def _reason(entry: Entry) -> str:
    """Why a run of known provenance is not ranked; empty where it is."""
    if entry.standing == "unverified":
        return "made elsewhere, and its scores were not verified"
    return "it is shown what it is to estimate" if get_model(entry.config.model["name"]).sees_truth else ""


def _places(runs: Sequence[tuple[Entry, Records]], score: Score) -> list[Place]:
    sums = {entry: Sums.of(score, [records]) for entry, records in runs}
    metric = score.metric
    found = {entry: of_one(one, POOLED).within(*metric.limits) for entry, one in sums.items()}
    known = [entry for entry in sums if np.isfinite(found[entry].value)]
    ordered = sorted(known, key=lambda entry: abs(found[entry].value - metric.perfect))
    return [
        Place(
            entry, rank, found[entry].value, found[entry].low, found[entry].high,
            entry == ordered[0] or not _is_certain(sums[entry], sums[ordered[0]]), sums[entry].values.shape[1],
        )
        for rank, entry in enumerate(ordered, 1)
    ]  # fmt: skip


def _is_certain(worse: Sums, better: Sums) -> bool:
    """Whether the interval of their difference, event by event, excludes zero."""
    found = compared(worse, better, POOLED).interval
    return bool(found.low > 0 or found.high < 0)


def _archive_of(entry: Entry) -> str:
    archive = entry.provenance.get("data", {}).get("archive", {})
    return str(archive.get("name") or archive.get("preset") or "")


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
