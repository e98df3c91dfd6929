"""The README stays one that a newcomer reads: one screen, narrow tables, and links that lead somewhere."""

import re

import pytest

from docs.tools.pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_page_of_one_screen() -> None:
    assert len(README.splitlines()) <= 180


def test_tables_have_six_columns_at_most() -> None:
    rows = [line for line in README.splitlines() if line.startswith("|")]
    assert rows
    assert max(row.replace("\\|", "").count("|") - 1 for row in rows) <= 6


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
