"""The tables of docs/guides/{statistics,arms}.md are those of the committed results, and support what is said."""

import math
from pathlib import Path

import pytest

from docs.tools.coverage_page import ARMS_PAGE, PAGE, page_with_tables, rows_of


@pytest.mark.parametrize(("page", "tables"), [(PAGE, 4), (ARMS_PAGE, 1)])
def test_pages_show_the_committed_results(page: Path, tables: int) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- end of ") == tables
    assert page_with_tables(text) == text


@pytest.mark.parametrize("name", ["coverage-qpe", "coverage-nowcast"])
def test_comparisons_cover_91_to_99_percent(name: str) -> None:
    for row in rows_of(name):
        assert 0.91 <= row["covered"] <= 0.99, row
        assert row["trials"] >= 500


def test_without_an_effect_at_most_six_percent_are_marked() -> None:
    rows = [row for row in rows_of("coverage-null") if row["seeds"] > 1]
    assert rows
    for row in rows:
        error = math.sqrt(0.06 * 0.94 / row["trials"])
        assert row["null"]
        assert row["significant"] <= 0.06 + 2 * error, row
