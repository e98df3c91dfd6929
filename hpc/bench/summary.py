"""One run's scores by lead time or by class of what was observed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.pairing import AGGREGATIONS, MEAN, POOLED, Sums, of_events
from polarcast.hpc.scores.family import FAMILIES
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.score import ALL, Score, coordinate_label, expand, parse_score

EVERY, FEW = "all", "usual"
AXES = ("class", "lead_time", "height")
USUAL = ("rmse", "mae", "ne", "nb", "cc", "csi@threshold=*", "hss@threshold=*", "fss@threshold=*,window={}", "crps")


@dataclass(frozen=True)
class Summary:
    """Values of scores, one row each: at every coordinate of an axis, and over all of it.

    Attributes:
        by: The axis.
        coordinates: Along it.
        rows: (score, values at the coordinates, value over all, events on which it is defined).
    """

    by: str
    coordinates: Sequence[str]
    rows: Sequence[tuple[Score, list[float | None], float | None, int]]
    protocol: Protocol
    aggregation: str

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        rows = [
            {"score": str(s), "unit": s.unit(self.protocol), self.by: dict(zip(self.coordinates, values, strict=True)),
             "all": whole, "support": support}
            for s, values, whole, support in self.rows
        ]  # fmt: skip
        return {"by": self.by, "aggregation": self.aggregation, "rows": rows}

    def as_table(self, title: str) -> Table:
        """For the terminal."""
        caption = {POOLED: "scores of all events' sums (pooled)", MEAN: "means of the events' scores"}
        shown = Table(title=escape(title), caption=caption[self.aggregation], title_justify="left")
        shown.add_column("score")
        for coordinate in self.coordinates:
            shown.add_column(coordinate_label(self.by, coordinate, self.protocol), justify="right")
        shown.add_column("all", justify="right")
        shown.add_column("events", justify="right")
        for score, values, whole, support in self.rows:
            shown.add_row(escape(score.heading(self.protocol)), *map(_shown, [*values, whole]), str(support))
        return shown


def check_wanted(wanted: Sequence[str], by: str | None, aggregation: str) -> None:
    """Raises BadInput for what can't be summarized, before anything is computed."""
    if by not in (None, *AXES):
        raise BadInput(f"unknown axis {by!r}", "--by", f"there are: {', '.join(AXES)}")
    if aggregation not in AGGREGATIONS:
        raise BadInput(f"unknown aggregation {aggregation!r}", "--aggregation", f"use {' or '.join(AGGREGATIONS)}")
    for text in wanted:
        if text not in (EVERY, FEW):
            parse_score(text)


def summarize(records: Records, wanted: Sequence[str], by: str | None, aggregation: str = POOLED) -> Summary:
    """Scores of one run.

    Args:
        records: Of the run.
        wanted: Scores as text, with `*` for all coordinates; `all` for every metric, `usual` for a few.
        by: One of AXES; by default lead_time where there are several, else class.
        aggregation: pooled or mean.

    Raises:
        BadInput: an unknown score or axis, or one that the records don't hold.
    """
    protocol = records.protocol
    check_wanted(wanted, by, aggregation)
    by = by or ("lead_time" if len(protocol.lead_time) > 1 else "class")
    coordinates = [f"{float(c):g}" for c in protocol.axis(by)]
    scores = [score for text in _named(wanted, records) for score in expand(parse_score(text), protocol)]
    rows = [_row(records, score, by, coordinates, aggregation) for score in scores]
    return Summary(by, coordinates, rows, protocol, aggregation)


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
    return list(dict.fromkeys(named))


def _every(records: Records) -> list[str]:
    """Every metric that the records hold, at every threshold, and windows, blocks and wavenumbers in the middle."""
    found = []
    for name, metric in METRICS.items():
        for family in (f for f in metric.families if f in records.sums):
            axes = [a for a in FAMILIES[family].axes if a not in (*metric.uses, "class", "field")]
            at = {axis: ALL if axis == "threshold" else _middle(records.protocol, axis) for axis in axes}
            found.append(str(Score(name, at)))
    return found


def _middle(protocol: Protocol, axis: str) -> str:
    coordinates = protocol.axis(axis)
    return f"{float(coordinates[len(coordinates) // 2]):g}"


def _row(
    records: Records, score: Score, by: str, coordinates: Sequence[str], aggregation: str
) -> tuple[Score, list[float | None], float | None, int]:
    has_axis = by in ("lead_time", "height") or by in score.family.axes
    values: list[float | None] = [None] * len(coordinates)
    if has_axis and by not in score.at:
        values = [_value(records, Score(score.name, {**score.at, by: c}), aggregation)[0] for c in coordinates]
    whole, support = _value(records, score, aggregation)
    return score, values, whole, support


def _value(records: Records, score: Score, aggregation: str) -> tuple[float | None, int]:
    sums = Sums.of(score, [records])
    by_event = of_events(sums)
    defined = by_event[np.isfinite(by_event)]
    mean = float(defined.mean()) if len(defined) else np.nan
    value = float(sums.score_of(sums.values.sum((0, 1)))) if aggregation == POOLED else mean
    return (value if np.isfinite(value) else None), len(defined)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:#.3g}" if abs(value) < 100 else f"{value:.0f}"
