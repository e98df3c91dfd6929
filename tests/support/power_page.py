"""Tables of docs/guides/power.md, from the JSON in docs/results; `python -m tests.support.power_page` writes them.

The JSON files are the output of the commands that the page names.
"""

import json
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

from polarcast.hpc.bench.power.render import cell
from polarcast.hpc.scores.stats.power import Needed
from tests.support.coverage_page import NAMES, RESULTS

PAGE = Path(__file__).parents[2] / "docs/guides/power.md"


def rows_of(name: str) -> list[dict[str, Any]]:
    return list(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"])


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def coverage_table() -> str:
    """Events by score and gain (rows) and seeds (columns)."""
    rows, seeds = [], list[int]()
    for row in rows_of("power-coverage"):
        for gain in row["gains"]:
            seeds = [need["seeds"] for need in gain["needs"]]
            rows.append([short(row["score"]), gain["gain"], *(of_json(need) for need in gain["needs"])])
    return markdown(["score", "gain", *(f"{k} seeds" for k in seeds)], rows)


def made_up_table() -> str:
    """Power measured, by case and plan (rows) and distribution (columns)."""
    rows = rows_of("power-made-up")
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    plans = list(dict.fromkeys((row["case"], row["seeds"], row["effect"]) for row in rows))
    lines = []
    for case, seeds, effect in plans:
        found = {r["kind"]: r for r in rows if (r["case"], r["seeds"], r["effect"]) == (case, seeds, effect)}
        shares = [f"{found[kind]['power']:.0%} ({found[kind]['groups']})" for kind in kinds]
        lines.append([case, str(seeds or "–"), f"{effect:g}", *shares])
    heads = {"normal": "normal", "t5": "Student's t, 5 df", "lognormal": "lognormal"}
    return markdown(["spread", "seeds", "effect", *(f"{heads[kind]} (groups)" for kind in kinds)], lines)


def pool_table() -> str:
    """Power measured on the pool, and what pilots recommend."""
    lines = []
    for row in rows_of("power-pool"):
        gain = f"{row['gain']:.0%} lower" if "csi" not in row["score"] else f"+{row['gain']:g}"
        median = f"{row['median']:.0f}" if row["median"] else "none"
        lines.append([short(row["score"]), gain, str(row["seeds"]), str(row["groups"]), f"{row['power']:.0%}",
                      f"{median} ({row['within']:.0%})"])  # fmt: skip
    return markdown(["score", "gain", "seeds", "events", "power", "60 events (range holds)"], lines)


def short(score: str) -> str:
    return NAMES[score].removesuffix(" ratio")


def of_json(need: dict[str, Any]) -> str:
    return cell(Needed(*(inf if need[end] is None else need[end] for end in ("groups", "low", "high"))))


TABLES: dict[str, Callable[[], str]] = {
    "power-coverage": coverage_table, "power-made-up": made_up_table, "power-pool": pool_table,
}  # fmt: skip


def page_with_tables(text: str) -> str:
    """Replace what stands between the marks of each table."""
    for name, made in TABLES.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{made()}\n<!-- end of {name} -->{rest.split(f'<!-- end of {name} -->')[1]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
