"""Tables of docs/results/question-four.md, made from docs/results/question-four.json.

`python -m docs.tools.question_four_page runs/question-four` collects the JSON file from the folder of the suite, with
the answers of `polarcast power`. `make results` then writes the page's tables.
"""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docs.tools.arms_table import by_arm, kept_rows
from docs.tools.markdown import filled, grid
from docs.tools.pages import RESULTS
from docs.tools.power_page import rows_of_gains
from polarcast.hpc.bench.power.sides import sides_of_suite
from polarcast.hpc.bench.robustness.render import HEAD, lines_of
from polarcast.hpc.bench.robustness.result import read_robustness
from polarcast.hpc.evaluation.shapley.render import caption
from polarcast.hpc.evaluation.shapley.render import lines_of as values_of
from polarcast.hpc.evaluation.shapley.result import read_explanation
from polarcast.hpc.scores.protocol import Protocol

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


def collect(folder: Path) -> dict[str, Any]:
    """Collect the results of a finished suite."""
    tables = {name: kept_rows(folder / "tables" / f"{name}.json", scores) for name, scores in SHOWN.items()}
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
        "power": rows_of_gains(sides, POWER_SCORES),
    }


def _explained(folder: Path) -> dict[str, Any]:
    found = read_explanation(folder)
    head, lines = values_of(found)
    lines = [line for line in lines if "observed" not in line[0]]  # by class, the intervals of 27 storms are wide
    return {"caption": caption(found), "head": head, "lines": lines}


def tables_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return each table of the page as Markdown, by the name of its marks."""
    found = {name: by_arm(records, _RAIN) for name, records in result["tables"].items()}
    found["verdict"] = "\n".join(f"- {sentence}" for sentence in result["verdict"])
    found["origin"] = f"`{result['command']}`, {result['date']}. {result['origin']}"
    found |= {f"explain-{name}": _values(of) for name, of in result["explain"].items()}
    found["robustness"] = grid(result["robustness"]["head"], result["robustness"]["lines"])
    found["power"] = grid(list(result["power"][0]), [list(row.values()) for row in result["power"]])
    return found


def _values(explained: Mapping[str, Any]) -> str:
    return grid(explained["head"], explained["lines"]) + f"\n\n{explained['caption']}."


def page_with_tables(text: str) -> str:
    """Return the page with its tables."""
    return filled(text, tables_of(json.loads(RESULT.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    RESULT.write_text(json.dumps(collect(Path(sys.argv[1])), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
