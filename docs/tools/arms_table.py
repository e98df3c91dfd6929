"""Scores of a suite by model (rows) and arm (columns), from the JSON files of its tables."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.tools.markdown import table
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.wording import effect, number

ARMS = {
    "radar": "radar",
    "dualpol": "dual-pol",
    "placebo": "placebo",
    "difference": "dual-pol vs radar",
    "placebo_vs_radar": "placebo vs radar",
    "dualpol_vs_placebo": "dual-pol vs placebo",
    "dualpol_vs": "change",
}
KEPT = ("label", "arm", "metric", "value", "low", "high", "scale", "seeds", "groups", "lacks_seeds", "p_holm")
Row = Mapping[str, Any]


def kept_rows(path: Path, scores: Sequence[str] = ()) -> list[Row]:
    """Return the rows of a suite's table that a page keeps: those of some scores, or all of them."""
    records = json.loads(path.read_text(encoding="utf-8"))["records"]
    return [{name: r[name] for name in KEPT} for r in records if not scores or r["metric"] in scores]


def by_arm(records: Sequence[Row], protocol: Protocol) -> str:
    """Lay out scores by model and score (rows) and arm (columns); comparisons with their interval."""
    arms = [arm for arm in ARMS if any(r["arm"] == arm for r in records)]
    cells = {(r["label"], r["metric"], r["arm"]): _cell(r) for r in records}
    rows = list(dict.fromkeys((r["label"], r["metric"]) for r in records))
    names = [ARMS[arm] for arm in arms]
    if len({metric for _, metric in rows}) == 1:
        lines = [[label, *(cells.get((label, metric, arm), "") for arm in arms)] for label, metric in rows]
        return table(["model", *names], lines).rstrip()
    lines = [
        [label, heading(metric, protocol), *(cells.get((label, metric, arm), "") for arm in arms)]
        for label, metric in rows
    ]
    return table(["model", "score", *names], lines).rstrip()


def heading(metric: str, protocol: Protocol) -> str:
    """Return the heading of a score without its unit."""
    return parse_score(metric).heading(protocol).split(" [")[0]


def _cell(record: Row) -> str:
    """Return a number, or a comparison with its interval and the stars that tables show."""
    if record["value"] is None:
        return "–"
    if not record["scale"]:
        return number(record["value"])
    if record["low"] is None:
        return effect(record["value"], record["scale"])
    excludes = (record["low"] > 0 or record["high"] < 0) and not record["lacks_seeds"]
    stars = ("\\*\\*" if (record["p_holm"] or 1) < 0.05 else "\\*") if excludes else ""
    limits = ", ".join(effect(record[end], record["scale"]) for end in ("low", "high"))
    return f"{effect(record['value'], record['scale'])}{stars} [{limits}]"
