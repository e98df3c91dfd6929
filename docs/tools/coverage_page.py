"""Tables of docs/guides/statistics.md and docs/guides/arms.md, made from the JSON files in docs/results.

`make results` writes them. The JSON files are the output of the commands that the pages name.
"""

import json
from typing import Any

from docs.tools.markdown import filled, table
from docs.tools.pages import RESULTS, ROOT
from polarcast.hpc.scores.wording import effect

PAGE, ARMS_PAGE = ROOT / "docs/guides/statistics.md", ROOT / "docs/guides/arms.md"
NAMES = {
    "rmse": "RMSE ratio",
    "paper_rbias": "RBIAS ratio",
    "csi@threshold=10": "CSI ≥ 10 mm/h",
    "csi@threshold=30": "CSI ≥ 30 mm/h",
    "csi@threshold=20": "CSI ≥ 20 dBZ",
    "csi@threshold=35": "CSI ≥ 35 dBZ",
}
TABLES = ("coverage-qpe", "coverage-alone", "coverage-null", "coverage-nowcast")


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON file of docs/results."""
    return list(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"])


def short(score: str) -> str:
    """Return the name of a score, without saying that it is compared as a ratio."""
    return NAMES[score].removesuffix(" ratio")


def page_with_tables(text: str) -> str:
    """Return a page with those of the tables that it has marks for."""
    return filled(text, {name: _coverage(name) for name in TABLES} | {"coverage-effects": _effects()})


def _coverage(name: str) -> str:
    """Coverage by score and seeds (rows) and number of events (columns); see `_cell`."""
    rows, lines = rows_of(name), []
    counts = sorted({row["groups"] for row in rows})
    for score, seeds in dict.fromkeys((row["score"], row["seeds"]) for row in rows):
        cells = {row["groups"]: _cell(name, row) for row in rows if (row["score"], row["seeds"]) == (score, seeds)}
        label = short(score) if name == "coverage-alone" else NAMES[score]
        lines.append([label, str(seeds), *(cells[n] for n in counts)])
    return table(["score", "seeds", *(f"{n} events" for n in counts)], lines).rstrip()


def _cell(name: str, row: dict[str, Any]) -> str:
    """Return the share covered; of samples without an effect, those with a star and of sign-flip tests below 5%."""
    return f"{row['significant']:.1%} ({row['sign_flip']:.0%})" if name == "coverage-null" else f"{row['covered']:.1%}"


def _effects() -> str:
    """Gain of dual-pol and of the placebo over radar, of the suite `coverage`."""
    records = json.loads((RESULTS / "coverage-effects.json").read_text(encoding="utf-8"))["records"]
    cells = {(r["label"], r["metric"], r["arm"]): r for r in records}
    lines = []
    for label, metric in dict.fromkeys((r["label"], r["metric"]) for r in records if r["metric"] in NAMES):
        both = [cells[label, metric, arm] for arm in ("difference", "placebo_vs_radar")]
        lines.append([label, short(metric), str(both[0]["seeds"]), *map(_comparison, both)])
    return table(["model", "score", "seeds", "dual-pol vs radar", "placebo vs radar"], lines).rstrip()


def _comparison(record: dict[str, Any]) -> str:
    value, low, high = (effect(record[name], record["scale"]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
