"""Tables of docs/results/real-transfer.md, made from docs/results/real-transfer.json.

`python -m docs.tools.real_transfer_page runs/real-transfer REAL` collects the JSON file from the folder of the suite,
after the commands that the page names. REAL is the name of the archive of real storms. `make results` then writes the
page's tables.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from docs.tools.arms_table import ARMS, Row, by_arm, heading, kept_rows
from docs.tools.markdown import filled, grid
from docs.tools.pages import RESULTS
from docs.tools.power_page import rows_of_gains
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.finetune import FOLDER as FINETUNED
from polarcast.hpc.bench.power.sides import sides_of_suite
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.robustness.render import HEAD, lines_of
from polarcast.hpc.bench.robustness.result import read_robustness
from polarcast.hpc.scores.event_scores import EventScores
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records, read_records

PAGE, RESULT = RESULTS / "real-transfer.md", RESULTS / "real-transfer.json"
COMMAND = "polarcast bench real-transfer"
MODEL, ONE_EVENT = "furenet", ("csi@threshold=30", "csi@threshold=35")
POWER_SCORES = ("csi@threshold=30", "csi@threshold=35")
_ECHO = Protocol("dBZ", (128, 128))
Scored = Mapping[str, Sequence[Records]]


def collect(folder: Path, real: str) -> dict[str, Any]:
    """Collect the results of a finished suite, scored on an archive and fine-tuned there."""
    on, tuned = folder / "on" / real, folder / FINETUNED / real
    places = {"synthetic": folder, "real": on, "tuned": tuned}
    known = {name: place for name, place in places.items() if (place / "tables").is_dir()}
    scored = _scored(folder, real)
    origin = json.loads((folder / "tables/hour.json").read_text(encoding="utf-8"))["origin"]
    return {
        "command": COMMAND,
        "origin": origin,
        "date": datetime.now(UTC).date().isoformat(),
        "verdicts": {name: _lines(place / "tables/verdict.txt") for name, place in known.items()},
        "tables": {name: kept_rows(place / "tables/hour.json") for name, place in known.items()},
        "changes": {name: kept_rows(place / "tables/changes.json") for name, place in known.items() if name != "tuned"},
        "events": _by_event(scored),
        "robustness": _robustness(on),
        # Of the synthetic test events: three real ones have no spread to tell it.
        "power": rows_of_gains(sides_of_suite(folder, "radar", "dualpol", [MODEL])[0], POWER_SCORES),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _scored(folder: Path, real: str) -> Scored:
    """Return the records of the model's runs on the real archive, by arm."""
    suite = saved_suite(folder)
    files = SuiteFolder(folder, suite.data)
    found: dict[str, list[Records]] = {}
    for cell in cells_of(suite, files.shards):
        if cell.model == MODEL:
            run = files.cell(cell, read_manifest(files.shards))
            found.setdefault(cell.arm, []).append(
                read_records(folder / "on" / real / "scores" / f"{run.path.name}.parquet")
            )
    return found


def _by_event(scored: Scored) -> list[Row]:
    """Return scores of each event alone, each the mean over seeds, with those of each seed."""
    rows = list[Row]()
    for score in ONE_EVENT:
        for arm, records in scored.items():
            values = np.stack([EventScores(one).by_event(score) for one in records])
            for event, of_event in zip(records[0].events.tolist(), values.T, strict=True):
                seeds = [round(float(value), 4) for value in of_event]
                rows.append({"event": event, "score": score, "arm": arm, "seeds": seeds})
    return rows


def _robustness(on: Path) -> dict[str, Any]:
    found = read_robustness(on / "robustness")
    return {"head": list(HEAD), "lines": lines_of(found)}


def tables_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return each table of the page as Markdown, by the name of its marks."""
    found = {f"hour-{name}": by_arm(records, _ECHO) for name, records in result["tables"].items()}
    found |= {f"changes-{name}": by_arm(records, _ECHO) for name, records in result["changes"].items()}
    for name, sentences in result["verdicts"].items():
        found[f"verdict-{name}"] = "\n".join(f"- {sentence}" for sentence in sentences)
    found["origin"] = f"`{result['command']}`, {result['date']}. {result['origin']}"
    found["events"] = _events(result["events"])
    found["robustness"] = grid(result["robustness"]["head"], result["robustness"]["lines"])
    found["power"] = grid(list(result["power"][0]), [list(row.values()) for row in result["power"]])
    return found


def _events(rows: Sequence[Row]) -> str:
    """Lay out scores by event and score (rows) and arm (columns): the mean over seeds, and their range."""
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    cells = {(row["event"], row["score"], row["arm"]): _mean(row["seeds"]) for row in rows}
    lines = [
        [str(event), heading(score, _ECHO), *(cells[event, score, arm] for arm in arms)]
        for event, score in sorted({(row["event"], row["score"]) for row in rows})
    ]
    return grid(["event", "score", *(ARMS[arm] for arm in arms)], lines)


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def page_with_tables(text: str) -> str:
    """Return the page with its tables."""
    return filled(text, tables_of(json.loads(RESULT.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    content = json.dumps(collect(Path(sys.argv[1]), sys.argv[2]), indent=1, ensure_ascii=False)
    RESULT.write_text(content + "\n", encoding="utf-8")
