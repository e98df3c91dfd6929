"""What the training of a run has spent, from its log."""

from collections.abc import Iterable, Mapping
from typing import Any


def process_hours(log: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the process-hours of all training steps in a log; None if it has no step."""
    records = [record for record in log if record["event"] in ("start", "step")]
    spent, size, last = 0.0, 1, 0
    for record in records:
        if record["event"] == "start":
            size, last = record["world_size"], record["step"]
        else:
            spent += record["seconds"] * (record["step"] - last) * size
            last = record["step"]
    return spent / 3600 if any(record["event"] == "step" for record in records) else None
