"""Hours and energy that a training used, from the records of its log."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_JOULES_PER_KWH = 3.6e6


def process_hours(log: Sequence[Mapping[str, Any]]) -> float | None:
    """Return process-hours of training steps, over all starts; None for a run that logged no step.

    Raises:
        LookupError, TypeError: a record of a start or a step lacks a number.
    """
    records = [record for record in log if record["event"] in ("start", "step")]
    spent, size, last = 0.0, 1, 0
    for record in records:
        if record["event"] == "start":
            size, last = record["world_size"], record["step"]
        else:
            spent += record["seconds"] * (record["step"] - last) * size
            last = record["step"]
    return spent / 3600 if any(record["event"] == "step" for record in records) else None


def kilowatt_hours(log: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the energy that the devices measured in training and validation; None without measurements.

    Raises:
        TypeError: a measurement is no number.
    """
    joules = [record["joules"] for record in log if "joules" in record]
    return float(sum(joules) / _JOULES_PER_KWH) if joules else None
