"""The README stays one that a newcomer reads: short sentences, narrow tables, and links that lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def prose(page: str) -> list[str]:
    """Return the sentences of a page, without code, tables, headings, comments and link targets."""
    text = re.sub(r"```.*?```", "", page, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = "\n".join("" if line.startswith(("|", "#", "!")) else line for line in text.splitlines())
    text = re.sub(r"\]\([^)]*\)", "]", text)
    blocks = re.split(r"\n\s*\n|\n(?=- )", text)
    return [part.strip() for block in blocks for part in re.split(r"(?<=[.:?!;])\s+", " ".join(block.split())) if part]


def words(sentence: str) -> int:
    """Return the number of words of a sentence."""
    return len(re.findall(r"[\w/`.%\-]+", sentence))


def test_a_page_of_one_screen() -> None:
    assert len(README.splitlines()) <= 180


def test_sentences_are_short() -> None:
    assert [sentence for sentence in prose(README) if words(sentence) > 25] == []


def test_a_long_sentence_is_found() -> None:
    long = "This sentence " + "goes on and " * 12 + "ends.\n"
    assert [words(sentence) > 25 for sentence in prose(f"Short one. {long}")] == [False, True]


def test_tables_have_six_columns_at_most() -> None:
    rows = [line for line in README.splitlines() if line.startswith("|")]
    assert rows
    assert max(row.replace("\\|", "").count("|") - 1 for row in rows) <= 6


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
