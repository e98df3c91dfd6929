"""Tables of docs/guides/statistics.md and docs/guides/arms.md, made from the JSON files in docs/results.

`python -m tests.support.coverage_page` writes them. The JSON files are the output of the commands that the pages name.
"""

import json
from pathlib import Path
from typing import Any

from polarcast.hpc.scores.wording import effect

ROOT = Path(__file__).parents[2]
PAGE, ARMS_PAGE, RESULTS = ROOT / "docs/guides/statistics.md", ROOT / "docs/guides/arms.md", ROOT / "docs/results"
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
    return list(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"])


def table(name: str) -> str:
    """Coverage by score and seeds (rows) and number of events (columns); see `cell`."""
    rows = rows_of(name)
    counts = sorted({row["groups"] for row in rows})
    lines = [
        "| score | seeds | " + " | ".join(f"{n} events" for n in counts) + " |",
        "|---|---|" + "---|" * len(counts),
    ]
    for score, seeds in dict.fromkeys((row["score"], row["seeds"]) for row in rows):
        cells = {row["groups"]: cell(name, row) for row in rows if (row["score"], row["seeds"]) == (score, seeds)}
        label = NAMES[score].removesuffix(" ratio") if name == "coverage-alone" else NAMES[score]
        lines.append(f"| {label} | {seeds} | " + " | ".join(cells[n] for n in counts) + " |")
    return "\n".join(lines)


def cell(name: str, row: dict[str, Any]) -> str:
    """Return the share covered; of samples without an effect, those with a star and of sign-flip tests below 5%."""
    return f"{row['significant']:.1%} ({row['sign_flip']:.0%})" if name == "coverage-null" else f"{row['covered']:.1%}"


def effects_table() -> str:
    """Gain of dual-pol and of the placebo over radar, of the suite `coverage`."""
    records = json.loads((RESULTS / "coverage-effects.json").read_text(encoding="utf-8"))["records"]
    cells = {(r["label"], r["metric"], r["arm"]): r for r in records}
    lines = ["| model | score | seeds | dual-pol vs radar | placebo vs radar |", "|---|---|---|---|---|"]
    for label, metric in dict.fromkeys((r["label"], r["metric"]) for r in records if r["metric"] in NAMES):
        both = [cells[label, metric, arm] for arm in ("difference", "placebo_vs_radar")]
        texts = [f"{effect(r['value'], r['scale'])} {interval(r)}" for r in both]
        name = NAMES[metric].removesuffix(" ratio")
        lines.append(f"| {label} | {name} | {both[0]['seeds']} | {' | '.join(texts)} |")
    return "\n".join(lines)


def interval(record: dict[str, Any]) -> str:
    return f"[{effect(record['low'], record['scale'])}, {effect(record['high'], record['scale'])}]"


def page_with_tables(text: str) -> str:
    """Replace what stands between the marks of each table that a page has."""
    tables = dict.fromkeys(TABLES, table) | {"coverage-effects": lambda _: effects_table()}
    for name, made in tables.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if start in text:
            before, after = text.index(start) + len(start), text.index(end)
            text = text[:before] + made(name) + text[after:]
    return text


if __name__ == "__main__":
    for page in (PAGE, ARMS_PAGE):
        page.write_text(page_with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
