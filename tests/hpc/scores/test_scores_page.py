"""The page on scores has a row for every score, with its range and best value."""

import math
import re
from pathlib import Path

import pytest

from polarcast.hpc.scores.metrics import METRICS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "scores.md"
# | `name@axes` | formula | range | best | …, with escaped bars in formulas
_ROWS = [re.split(r"(?<!\\)\|", line) for line in PAGE.read_text().splitlines() if line.startswith("| `")]


def text_of(limit: float) -> str:
    if math.isnan(limit):
        return "–"
    known = {math.inf: "∞", -math.inf: "−∞", -1 / 3: "−1/3"}
    return known.get(limit, f"{limit:g}".replace("-", "−"))


@pytest.mark.parametrize("name", METRICS)
def test_a_score_has_its_row(name: str) -> None:
    rows = [row for row in _ROWS if row[1].strip(" `").partition("@")[0] == name]
    assert rows
    metric = METRICS[name]
    for row in rows:
        assert row[3].strip() == " … ".join(map(text_of, metric.limits))
        assert row[4].strip() == text_of(metric.perfect)
        assert row[7].strip(), "tested against"


def test_every_row_is_of_a_score() -> None:
    assert {row[1].strip(" `").partition("@")[0] for row in _ROWS} == set(METRICS)
