"""Tables of docs/guides/power.md, made from the JSON files in docs/results.

`make results` writes them. The JSON files are the output of the commands that the page names.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

from docs.tools.coverage_page import rows_of, short
from docs.tools.markdown import filled, table
from docs.tools.pages import ROOT
from polarcast.hpc.bench.power.answers import PowerSettings, Sides, answers
from polarcast.hpc.bench.power.render import cell
from polarcast.hpc.scores.stats.power import Needed

PAGE = ROOT / "docs/guides/power.md"
TABLES = ("power-coverage", "power-made-up", "power-pool")


def page_with_tables(text: str) -> str:
    """Return the page with its tables."""
    made = (_coverage(), _made_up(), _pool())
    return filled(text, dict(zip(TABLES, made, strict=True)))


def _coverage() -> str:
    """Events by score and gain (rows) and seeds (columns)."""
    rows, seeds = [], list[int]()
    for row in rows_of("power-coverage"):
        for gain in row["gains"]:
            seeds = [need["seeds"] for need in gain["needs"]]
            rows.append([short(row["score"]), gain["gain"], *(_needed(need) for need in gain["needs"])])
    return table(["score", "gain", *(f"{k} seeds" for k in seeds)], rows).rstrip()


def _needed(need: dict[str, Any]) -> str:
    return cell(Needed(*(inf if need[end] is None else need[end] for end in ("groups", "low", "high"))))


def rows_of_gains(sides: Sides, scores: Sequence[str]) -> list[dict[str, str]]:
    """Return the events that would show a gain, a row for each score and gain, by number of seeds."""
    found = answers(sides, scores, PowerSettings())
    return [
        {"score": each.heading, "gain": gain.text, **{f"{seeds} seeds": cell(n) for seeds, n in gain.groups.items()}}
        for each in found
        for gain in each.gains
    ]


def _made_up() -> str:
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
    return table(["spread", "seeds", "effect", *(f"{heads[kind]} (groups)" for kind in kinds)], lines).rstrip()


def _pool() -> str:
    """Power measured on the pool, and what pilots recommend."""
    lines = []
    for row in rows_of("power-pool"):
        gain = f"{row['gain']:.0%} lower" if "csi" not in row["score"] else f"+{row['gain']:g}"
        pilots = f"{row['median']:.0f}" if row["median"] else "none"
        measured = [str(row["seeds"]), str(row["groups"]), f"{row['power']:.0%}", f"{pilots} ({row['within']:.0%})"]
        lines.append([short(row["score"]), gain, *measured])
    return table(["score", "gain", "seeds", "events", "power", "60 events (range holds)"], lines).rstrip()
