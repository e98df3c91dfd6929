"""Tables of docs/results/question-four.md, made from docs/results/question-four.json.

`python -m docs.tools.question_four_page runs/question-four` collects the JSON file from the folder of the suite, with
the answers of `polarcast power`. `make results` then writes the page's tables.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docs.tools.markdown import filled, table
from docs.tools.pages import RESULTS
from polarcast.hpc.bench.power.answers import GainNeeds, PowerSettings, Sides, answers
from polarcast.hpc.bench.power.render import cell
from polarcast.hpc.bench.power.sides import sides_of_suite
from polarcast.hpc.bench.robustness.render import HEAD, lines_of
from polarcast.hpc.bench.robustness.result import read_robustness
from polarcast.hpc.evaluation.shapley.render import caption
from polarcast.hpc.evaluation.shapley.render import lines_of as values_of
from polarcast.hpc.evaluation.shapley.result import read_explanation
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.wording import effect, number

PAGE, RESULT = RESULTS / "question-four.md", RESULTS / "question-four.json"
COMMAND = "polarcast bench question-four"
POWER_MODEL, POWER_SCORES = "unet", ("rmse", "paper_rbias", "csi@threshold=10")
SHOWN = {
    "table_8_1": ("rmse", "paper_rbias", "csi@threshold=10"),
    "classes": (),
    "context": (),
    "table_8_2": (),
    "window_gains": ("hk_gain@threshold=10,window=9",),
    "table_8_3": (),
    "fusion": ("rmse", "paper_rbias", "csi@threshold=10"),
    "fusion_signal": (),
    "fusion_decision": (),
}
"""Tables of the page, and the scores shown; all if empty."""
_RAIN = Protocol("mm/h", (64, 64))
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


def collect(folder: Path) -> dict[str, Any]:
    """Collect the results of a finished suite."""
    tables = {name: _table(folder / "tables" / f"{name}.json", scores) for name, scores in SHOWN.items()}
    explained = {path.name: _explained(path) for path in sorted((folder / "explain").iterdir())}
    robustness = read_robustness(folder / "robustness")
    sides = sides_of_suite(folder, "radar", "dualpol", [POWER_MODEL])[0]
    origin = json.loads((folder / "tables/table_8_1.json").read_text(encoding="utf-8"))["origin"]
    return {
        "command": COMMAND,
        "origin": origin,
        "date": datetime.now(UTC).date().isoformat(),
        "verdict": (folder / "tables/verdict.txt").read_text(encoding="utf-8").splitlines(),
        "tables": tables,
        "explain": explained,
        "robustness": {"head": list(HEAD), "lines": lines_of(robustness)},
        "power": _power(sides),
    }


def _table(path: Path, scores: Sequence[str]) -> list[Row]:
    records = json.loads(path.read_text(encoding="utf-8"))["records"]
    return [{name: r[name] for name in KEPT} for r in records if not scores or r["metric"] in scores]


def _explained(folder: Path) -> dict[str, Any]:
    found = read_explanation(folder)
    head, lines = values_of(found)
    lines = [line for line in lines if "observed" not in line[0]]  # by class, the intervals of 27 storms are wide
    return {"caption": caption(found), "head": head, "lines": lines}


def _power(sides: Sides) -> list[Row]:
    found = answers(sides, POWER_SCORES, PowerSettings())
    return [{"score": each.heading, "gain": gain.text, **_by_seeds(gain)} for each in found for gain in each.gains]


def _by_seeds(gain: GainNeeds) -> dict[str, str]:
    return {f"{seeds} seeds": cell(need) for seeds, need in gain.groups.items()}


def tables_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return each table of the page as Markdown, by the name of its marks."""
    found = {name: _by_arm(records) for name, records in result["tables"].items()}
    found["verdict"] = "\n".join(f"- {sentence}" for sentence in result["verdict"])
    found["origin"] = f"`{result['command']}`, {result['date']}. {result['origin']}"
    found |= {f"explain-{name}": _values(of) for name, of in result["explain"].items()}
    found["robustness"] = _grid(result["robustness"]["head"], result["robustness"]["lines"])
    found["power"] = _grid(list(result["power"][0]), [list(row.values()) for row in result["power"]])
    return found


def _by_arm(records: Sequence[Row]) -> str:
    """Lay out scores by model and score (rows) and arm (columns); comparisons with their interval."""
    arms = [arm for arm in ARMS if any(r["arm"] == arm for r in records)]
    cells = {(r["label"], r["metric"], r["arm"]): _cell(r) for r in records}
    rows = list(dict.fromkeys((r["label"], r["metric"]) for r in records))
    if len({metric for _, metric in rows}) == 1:
        lines = [[label, *(cells.get((label, metric, arm), "") for arm in arms)] for label, metric in rows]
        return _grid(["model", *(ARMS[arm] for arm in arms)], lines)
    lines = [[label, _name(metric), *(cells.get((label, metric, arm), "") for arm in arms)] for label, metric in rows]
    return _grid(["model", "score", *(ARMS[arm] for arm in arms)], lines)


def _name(metric: str) -> str:
    return parse_score(metric).heading(_RAIN).split(" [")[0]


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


def _values(explained: Mapping[str, Any]) -> str:
    return _grid(explained["head"], explained["lines"]) + f"\n\n{explained['caption']}."


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return table(head, lines).rstrip()


def page_with_tables(text: str) -> str:
    """Return the page with its tables."""
    return filled(text, tables_of(json.loads(RESULT.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    RESULT.write_text(json.dumps(collect(Path(sys.argv[1])), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
