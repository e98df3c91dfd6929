"""Rank runs by a score and mark ties with the first."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.hpc.leaderboard.entry import SCORES_FILE, VERIFIED_FILE, Entry, lookup
from polarcast.hpc.scores.query import ALWAYS, Score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.stats.paired import DISTANCE, Sums, compared, of_one
from polarcast.hpc.utils.text import printable
from polarcast.models.registry import get_model

USUAL = {"qpe": "rmse", "nowcast": "csi@threshold=35"}
"""Default score of each task."""
_UNITS = {"qpe": "mm/h", "nowcast": "dBZ"}


@dataclass(frozen=True)
class Place:
    """A run's place on a board.

    Attributes:
        entry: The run.
        rank: Rank by value, 1 for the best.
        value: Score on all events.
        low: Lower limit of its 95% interval; NaN if undefined.
        high: Upper limit of its 95% interval; NaN if undefined.
        is_tied: Whether it is the first, or its comparison with the first does not show which is better.
        has_no_comparison: Whether no interval of the comparison with the first can be computed, as of too few events.
        events: Number of scored events.
        lacks_seeds: Whether its intervals leave out the variation between training runs: a run is one of a trained
            model.
    """

    entry: Entry
    rank: int
    value: float
    low: float
    high: float
    is_tied: bool
    events: int
    lacks_seeds: bool = False
    has_no_comparison: bool = False

    @property
    def mark(self) -> str:
        """`=` if it ties with the first, `?` if nothing can be said, else empty."""
        return "?" if self.has_no_comparison else "=" if self.is_tied else ""

    def as_row(self) -> dict[str, Any]:
        """Return a flat dict for tables and JSON."""
        entry = self.entry
        return {
            "rank": self.rank, "run": entry.name, "model": entry.model, "arm": entry.config.arm,
            "seed": entry.config.seed,
            "value": _number(self.value), "low": _number(self.low), "high": _number(self.high),
            "tied": None if self.has_no_comparison else self.is_tied,
            "one_seed": self.lacks_seeds, "events": self.events,
            "parameters": entry.cost("parameters"),
            "training_flops": entry.cost("training_flops"), "forecast_flops": entry.cost("forecast_flops"),
            "process_hours": _number(entry.hours), "kilowatt_hours": _number(entry.kilowatt_hours),
            "standing": entry.standing, "path": printable(entry.path),
        }  # fmt: skip


@dataclass(frozen=True)
class Board:
    """Runs of one task on one manifest, scored at the same lead times and heights.

    Attributes:
        task: qpe or nowcast; empty if no run can be read.
        data: Digest of the manifest.
        archive: Name of the archive or preset; empty if unknown.
        score: Score that the runs are ranked by.
        places: Ranked runs, best first.
        unranked: Runs that are not ranked, with the reason.
        scope: Lead times and heights, where runs on the same data have others.
    """

    task: str
    data: str
    archive: str
    score: Score
    places: list[Place]
    unranked: list[tuple[Entry, str]]
    scope: str = ""

    @property
    def title(self) -> str:
        """Title of its table."""
        if not self.task:
            return "runs that can't be read"
        scope = f", {self.scope}" if self.scope else ""
        return f"{self.task} on {self.archive or 'unknown data'} ({self.data[:8] or 'no manifest'}){scope}"

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        return {
            "task": self.task, "data": self.data, "archive": self.archive, "split": "test", "score": str(self.score),
            "places": [place.as_row() for place in self.places],
            "not_ranked": [
                {"run": entry.name, "path": printable(entry.path), "reason": why} for entry, why in self.unranked
            ],
        }  # fmt: skip


def make_boards(entries: Sequence[Entry], score: Score | None = None) -> list[Board]:
    """Rank runs on one board per task, manifest, lead times and heights, so that only what is comparable is compared.

    A run with a damaged file is not ranked; it does not affect the others.

    Args:
        entries: Scored runs.
        score: Score to rank by; the default score of each task if None.

    Raises:
        BadInput: no run has this score, or none of its values is better than another.
    """
    from polarcast.hpc.scores.query import parse_score

    if score and score.metric.direction == "none":
        what = f"{score} can't rank runs: neither smaller nor larger is better"
        raise BadInput(what, "--score", f"rank by {score.metric.gain_of}, and compare gains in a table")
    readable = [entry for entry in entries if not entry.problem]
    unreadable = [(entry, entry.problem) for entry in entries if entry.problem]
    scopes = {entry: _scope(entry, score or parse_score(USUAL[entry.config.task])) for entry in readable}
    keys = list(dict.fromkeys((entry.config.task, entry.data, scope) for entry, scope in scopes.items()))
    boards = []
    for task, data, scope in keys:
        of_key = [e for e, its in scopes.items() if (e.config.task, e.data, its) == (task, data, scope)]
        is_one_of_several = sum(key[:2] == (task, data) for key in keys) > 1
        found = _board(task, data, of_key, score or parse_score(USUAL[task]))
        boards.append(replace(found, scope=scope if is_one_of_several else ""))
    if score and readable and not any(board.places for board in boards):
        raise BadInput(
            f"no run has {score}", "--score", "list the scores of a run: polarcast evaluate RUN --scores all"
        )
    if unreadable and not boards:
        boards = [Board("", "", "", score or parse_score(USUAL["qpe"]), [], [])]
    for entry, problem in unreadable:
        _board_of(entry, boards).unranked.append((entry, problem))
    return boards


def _board_of(entry: Entry, boards: Sequence[Board]) -> Board:
    """Return the board on which to list a run that can't be ranked: that of its data, else the first."""
    try:
        key = (entry.config.task, entry.data)
    except Exception:  # whatever is wrong with it: the problem is listed
        return boards[0]
    return next((board for board in boards if (board.task, board.data) == key), boards[0])


def _board(task: str, data: str, entries: Sequence[Entry], score: Score) -> Board:
    reasons = {entry: _reason(entry, score) for entry in entries}
    unranked = [(entry, reason) for entry, reason in reasons.items() if reason]
    ranked = [(entry, entry.records) for entry, reason in reasons.items() if not reason]
    # Scores of other storms, lead times or windows are not comparable: rank the runs with the most common ones.
    for key, reason in _SAME.items():
        ranked, others = _most_common(ranked, [key(records, score) for _, records in ranked])
        unranked += [(entry, reason) for entry in others]
    places = _places(ranked, score)
    placed = {place.entry for place in places}
    unranked += [(entry, f"{score} is undefined on its events") for entry, _ in ranked if entry not in placed]
    archive = next((_archive_of(entry) for entry in entries), "")
    return Board(task, data, archive, score, places, unranked)


def _most_common(
    runs: list[tuple[Entry, Records]], keys: Sequence[Hashable]
) -> tuple[list[tuple[Entry, Records]], list[Entry]]:
    """Return the runs with the most common key, or with an unknown one (None), and the others."""
    [(usual, _)] = Counter(key for key in keys if key is not None).most_common(1) or [(None, 0)]
    pairs = list(zip(runs, keys, strict=True))
    kept = [run for run, key in pairs if key in (None, usual)]
    return kept, [entry for (entry, _), key in pairs if key not in (None, usual)]


def _events(records: Records, score: Score) -> Hashable:
    return tuple(records.events.tolist())


def _scope(entry: Entry, score: Score) -> str:
    """Return the lead times and heights that a score sums up, as text; empty for runs that do not have it."""
    protocol = entry.records.protocol
    try:
        found = [[protocol.axis(axis)[i] for i in score.indices(axis, protocol)] for axis in ALWAYS]
    except BadInput:
        return ""
    texts = [f"{axis.replace('_', ' ')} {', '.join(f'{one:g}' for one in values)}"
             for axis, values in zip(ALWAYS, found, strict=True) if list(values) != [0]]  # fmt: skip
    return ", ".join(texts)


def _windows(records: Records, score: Score) -> Hashable:
    """Return the number of windows of each event; None for records that do not count pixels."""
    if "observed" not in records.sums:
        return None
    pixels = records.sums["observed"][..., 0]
    return tuple((pixels.reshape(len(pixels), -1)[:, 0] / math.prod(records.protocol.shape)).tolist())


_SAME: dict[Callable[[Records, Score], Hashable], str] = {
    _events: "scored on other events",
    _windows: "scored on other windows of the events",
}
"""What must be the same for all ranked runs → reason of those that differ."""


def _reason(entry: Entry, score: Score) -> str:
    """Return why a run whose files can be read is not ranked; empty if it is."""
    if entry.missing:
        return f"unknown: {', '.join(entry.missing)}"
    if entry.standing == "unverified":
        return f"external run with unverified scores; if it is your own, delete its {VERIFIED_FILE}"
    if get_model(entry.config.model["name"]).sees_truth:
        return "the model uses the observation as input"
    if entry.config.is_placebo:
        return "a placebo: its dual-pol variables are those of other events"
    if share := entry.records.share_without_forecast:
        return f"its forecast is NaN at {share:.2%} of the observed pixels, which no score counts"
    try:
        with np.errstate(all="ignore"):  # sums of damaged records may overflow
            sums = score.sums(entry.records)
    except BadInput:
        return f"no {score} in its records"
    if entry.records.data not in ("", entry.data):
        return f"{SCORES_FILE} was scored on other shards than its provenance names"
    if (unit := entry.records.protocol.unit) != (expected := _UNITS[entry.config.task]):
        return f"{SCORES_FILE} holds scores in {printable(unit)}, not in {expected}"
    return "" if np.isfinite(sums).all() else f"{SCORES_FILE} is damaged: the sums of {score} are not finite"


def _places(runs: Sequence[tuple[Entry, Records]], score: Score) -> list[Place]:
    sums = {entry: Sums.of(score, [records], _is_random(entry)) for entry, records in runs}
    metric = score.metric
    with np.errstate(all="ignore"):
        intervals = {entry: of_one(one, POOLED).interval for entry, one in sums.items()}
    defined = [entry for entry in sums if np.isfinite(intervals[entry].value)]
    ordered = sorted(defined, key=lambda entry: abs(intervals[entry].value - metric.perfect))
    # Each run is a training of its own: the events' interval decides, because the variation between runs is unknown.
    comparisons = {entry: compared(sums[entry], sums[ordered[0]], POOLED).interval for entry in ordered}
    return [
        Place(
            entry, rank, intervals[entry].value, intervals[entry].low, intervals[entry].high,
            entry == ordered[0]
            or not comparisons[entry].excludes_zero
            or (metric.scale == DISTANCE and not _is_nearer(intervals[ordered[0]], intervals[entry], metric.perfect)),
            sums[entry].values.shape[1],
            sums[entry].lacks_seeds,
            entry != ordered[0] and not np.isfinite([comparisons[entry].low, comparisons[entry].high]).any(),
        )
        for rank, entry in enumerate(ordered, 1)
    ]  # fmt: skip


def _is_nearer(first: Interval, other: Interval, best: float) -> bool:
    """Return whether the intervals of two scores that differ show that the first is nearer to the best value.

    They lie on one side of it, or the first one lies within the distance of the other.
    """
    limits = np.array([[first.low, first.high], [other.low, other.high]]) - best
    if (limits > 0).all() or (limits < 0).all():
        return True
    straddles = limits[1, 0] <= 0 <= limits[1, 1]
    return not straddles and bool(abs(limits[0]).max() < abs(limits[1]).min())


def _is_random(entry: Entry) -> bool:
    """Return whether a run depends on its seed: its model is trained, or builds on one that is."""
    return entry.config.base is not None or get_model(entry.config.model["name"]).trained


def _archive_of(entry: Entry) -> str:
    archive = (lookup(entry.provenance, "data", "archive", key) for key in ("name", "preset"))
    return printable(next(filter(None, archive), ""))


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
