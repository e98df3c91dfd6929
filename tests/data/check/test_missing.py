"""Check of values that are missing where there is echo, by the counts in the notes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.archive import open_archive, write_event
from polarcast.data.check.archive import check_archive
from polarcast.data.check.findings import Finding


def findings(root: Path, *notes: dict[str, Any]) -> list[Finding]:
    """Return what the check of an archive of events with these notes says of missing values."""
    radar = np.random.default_rng(0).uniform(20, 50, (2, 2, 1, 24, 24)).astype(np.float32)
    for number, note in enumerate(notes):
        write_event(root, number, radar, None, variables=("zh", "zdr"), heights_km=(1.0,), note=note)
    return [f for f in check_archive(open_archive(root)) if "missing" in f.where or "missing" in f.found]


def note_of(share: float, pixels: int = 1000) -> dict[str, Any]:
    return {"missing_of_echo": {"zdr": {"1": share}}, "echo_pixels": {"1": pixels}}


def test_a_variable_that_is_missing_at_much_of_the_echo_gives_a_warning(tmp_path: Path) -> None:
    ok, warning = findings(tmp_path, note_of(0.05), note_of(0.25, 3000))
    assert (ok.severity, ok.found) == ("ok", "share of the echo without a value: zdr 20.0%")
    assert (warning.where, warning.ok, warning.severity) == ("event 001", True, "warning")
    assert "zdr is missing at 25% of the echo at 1 km" in warning.found


@pytest.mark.parametrize("note", [note_of(0.19), note_of(1.0, 49)])
def test_less_and_events_of_little_echo_give_none(note: dict[str, Any], tmp_path: Path) -> None:
    [found] = findings(tmp_path, note)
    assert found.severity == "ok"


@pytest.mark.parametrize(
    "note",
    [{}, {"missing_of_echo": {}}, {"missing_of_echo": [1]}, {"missing_of_echo": {"zdr": {"1": "x"}}, "echo_pixels": 3}],
)
def test_events_without_counts_are_not_judged(note: dict[str, Any], tmp_path: Path) -> None:
    assert findings(tmp_path / "a", note) == []
    ok, unjudged = findings(tmp_path / "b", note, note_of(0.0))
    assert (ok.severity, unjudged.severity) == ("ok", "not judged")
    assert unjudged.found == "not judged in 1 of 2 events: not counted"
