"""Tables of one run's scores along an axis such as lead time or observed class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from polarcast.hpc.evaluation.arguments import THRESHOLD, check_choices
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import ALL, ALWAYS, Score, coordinate_label, expand, parse_score, plain
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import MEAN, POOLED
from polarcast.hpc.scores.stats.paired import Sums, of_events
from polarcast.hpc.scores.sums import FAMILIES
from polarcast.hpc.scores.wording import arrow

EVERY, FEW = "all", "usual"
_APART = (THRESHOLD, "change", "pooling")
"""Axes listed at every coordinate, because their sums are not additive."""
USUAL = ("rmse", "mae", "ne", "nb", "cc", "csi@threshold=*", "hss@threshold=*", "fss@threshold=*,window={}", "crps")


@dataclass(frozen=True)
class ScoreRow:
    """A score at each coordinate of an axis, over the whole axis, and its number of defined events."""

    score: Score
    values: list[float | None]
    whole: float | None
    support: int


@dataclass(frozen=True)
class ScoreSummary:
    """Scores along one axis.

    Attributes:
        by: Name of the axis; empty for scores without one.
        coordinates: Coordinates along the axis.
        rows: One row per score.
        protocol: Protocol of the records.
        aggregation: pooled or mean.
    """

    by: str
    coordinates: Sequence[str]
    rows: Sequence[ScoreRow]
    protocol: Protocol
    aggregation: str

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        rows = [
            {
                "score": str(row.score),
                "unit": row.score.unit(self.protocol),
                "values": dict(zip(self.coordinates, row.values, strict=True)),
                "all": row.whole,
                "support": row.support,
            }
            for row in self.rows
        ]
        return {"by": self.by, "aggregation": self.aggregation, "rows": rows}

    def as_table(self, title: str) -> Table:
        """Return a table for the terminal."""
        caption = {POOLED: "scores of the sums over all events (pooled)", MEAN: "means of the scores of single events"}
        table = Table(title=escape(title), caption=caption[self.aggregation], title_justify="left")
        table.add_column("score")
        for coordinate in self.coordinates:
            table.add_column(coordinate_label(self.by, coordinate, self.protocol), justify="right")
        has_whole = self.by != THRESHOLD
        for name in ["all"] * has_whole + ["events"]:
            table.add_column(name, justify="right")
        for row in self.rows:
            values = [*row.values, *([row.whole] * has_whole)]
            heading = f"{self._heading(row.score)} {arrow(row.score.metric)}".rstrip()
            table.add_row(escape(heading), *map(_format, values), str(row.support))
        return table

    def _heading(self, score: Score) -> str:
        """Return the heading of a row; the CRPS of one member is called MAE, unless the MAE is in the table too."""
        heading = score.heading(self.protocol, without=[self.by])
        is_named_twice = any((row.score.name, row.score.at) == ("mae", score.at) for row in self.rows)
        return heading.replace("MAE", "CRPS", 1) if score.name == "crps" and is_named_twice else heading


def check_wanted(wanted: Sequence[str], by: str | None, aggregation: str) -> None:
    """Check scores, axis and aggregation before computing anything. Raises BadInput if one is unknown."""
    check_choices(by, aggregation)
    for text in wanted:
        if text not in (EVERY, FEW):
            parse_score(text)


def summarize(records: Records, wanted: Sequence[str], by: str | None, aggregation: str = POOLED) -> list[ScoreSummary]:
    """Summarize the scores of one run, one table per axis.

    Args:
        records: Records of the run.
        wanted: Scores as text, with `*` for all coordinates; `all` for every metric, `usual` for a selection.
        by: One of AXES. The default is lead_time if there are several lead times, else class or threshold by score.
            Scores without this axis, or at a fixed coordinate of it, get a separate table. So do those with `*` for
            the default axis, with a row for each coordinate.
        aggregation: pooled or mean.

    Raises:
        BadInput: a score or axis is unknown or missing from the records.
    """
    check_wanted(wanted, by, aggregation)
    usual = by or ("lead_time" if len(records.protocol.lead_time) > 1 else None)
    groups: dict[str, list[Score]] = {}
    for score in map(parse_score, _named(wanted, records)):
        axis = _axis_of(score, usual)
        apart = (THRESHOLD,) if axis == THRESHOLD else ()
        if score.at.get(axis) == ALL and not apart:
            # Along an axis that was not asked for by name, all coordinates are rows; else they are columns.
            axis, score = ("", score) if by is None else (axis, _without(score, axis))
        groups.setdefault(axis, []).extend(expand(score, records.protocol, apart))
    return [_summary(records, axis, scores, aggregation) for axis, scores in groups.items()]


def shares(records: Records) -> dict[str, float | None]:
    """Return the share of the pixels that are observed, and the share of these that have a forecast, over all fields.

    None without a pixel to count; empty for records of an earlier version, which did not count them.
    """
    names = [name for name in ("observed_share", "scored_share") if METRICS[name].families[0] in records.sums]
    return {name: _value(records, Score(name), POOLED)[0] for name in names}


def _axis_of(score: Score, by: str | None) -> str:
    """Return the requested axis if the score varies along it, else an empty name; the default axis if `by` is None."""
    if by is None:
        return _default_axis(score)
    return by if by in (*ALWAYS, *score.family.axes) and score.at.get(by, ALL) == ALL else ""


def _without(score: Score, axis: str) -> Score:
    """Return a score without its coordinate along an axis."""
    return Score(score.name, {name: value for name, value in score.at.items() if name != axis})


def _default_axis(score: Score) -> str:
    if score.at.get(THRESHOLD) == ALL:
        return THRESHOLD
    return "class" if "class" in score.family.axes and "class" not in score.at else ""


def _summary(records: Records, by: str, scores: Sequence[Score], aggregation: str) -> ScoreSummary:
    coordinates = [plain(c) for c in records.protocol.axis(by)] if by else []
    rows = [_row(records, score, by, coordinates, aggregation) for score in dict.fromkeys(scores)]
    return ScoreSummary(by, coordinates, rows, records.protocol, aggregation)


def _named(wanted: Sequence[str], records: Records) -> list[str]:
    named = []
    for text in wanted:
        named += (
            [u.format(_middle(records.protocol, "window")) for u in USUAL]
            if text == FEW
            else _every(records)
            if text == EVERY
            else [text]
        )
    named = list(dict.fromkeys(named))
    # The CRPS of one member is its MAE.
    is_twice = records.protocol.members == 1 and "mae" in named and not {EVERY, FEW}.isdisjoint(wanted)
    return [name for name in named if not (is_twice and name == "crps" and name not in wanted)]


def _every(records: Records) -> list[str]:
    """List every metric in the records, at all thresholds and changes and the middle of every other axis."""
    scores = []
    for name, metric in METRICS.items():
        for family in (f for f in metric.families if f in records.sums):
            axes = [a for a in FAMILIES[family].axes if a not in (*metric.uses, "class", "field")]
            at = {axis: ALL if axis in _APART else _middle(records.protocol, axis) for axis in axes}
            scores.append(str(Score(name, at)))
    return scores


def _middle(protocol: Protocol, axis: str) -> str:
    coordinates = protocol.axis(axis)
    return f"{float(coordinates[len(coordinates) // 2]):g}"


def _row(records: Records, score: Score, by: str, coordinates: Sequence[str], aggregation: str) -> ScoreRow:
    results = [_value(records, Score(score.name, {**score.at, by: c}), aggregation) for c in coordinates]
    values = [value for value, _ in results]
    if score.at.get(by) == ALL:  # sums of several thresholds are not additive
        return ScoreRow(score, values, None, max(support for _, support in results))
    return ScoreRow(score, values, *_value(records, score, aggregation))


def _value(records: Records, score: Score, aggregation: str) -> tuple[float | None, int]:
    sums = Sums.of(score, [records])
    by_event = of_events(sums)
    defined = by_event[np.isfinite(by_event)]
    mean = float(defined.mean()) if len(defined) else np.nan
    value = float(sums.score_of(sums.values.sum((0, 1)))) if aggregation == POOLED else mean
    return (value if np.isfinite(value) else None), len(defined)


def _format(value: float | None) -> str:
    return "–" if value is None else f"{value:#.3g}" if abs(value) < 100 else f"{value:.0f}"
