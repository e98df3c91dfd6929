"""The tables of docs/guides/power.md are those of the committed results, and support what is said."""

import math

import pytest

from docs.tools.power_page import PAGE, TABLES, page_with_tables, rows_of


def test_the_page_shows_the_committed_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("<!-- end of ") == len(TABLES)
    assert page_with_tables(text) == text


def test_made_up_comparisons_have_the_power_within_a_few_percent() -> None:
    rows = rows_of("power-made-up")
    assert {row["kind"] for row in rows} == {"normal", "t5", "lognormal"}
    for row in rows:
        assert row["power"] == pytest.approx(0.8, abs=0.05 + 2 * math.sqrt(0.16 / row["trials"])), row
    assert sum(row["power"] for row in rows) / len(rows) == pytest.approx(0.8, abs=0.03)


def test_the_pool_has_at_least_most_of_the_power() -> None:
    for row in rows_of("power-pool"):
        assert 0.7 <= row["power"] <= 0.95, row
