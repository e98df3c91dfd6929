"""Pages that are written by hand have short sentences, and guides begin with what a reader learns."""

from pathlib import Path

import pytest

from docs.tools.pages import ROOT, pages
from docs.tools.prose import sentences, words

MOST_WORDS = 25
LONG = "This sentence " + "goes on and " * 8 + "ends"
LESSONS = sorted(page for folder in ("start", "guides", "extend") for page in (ROOT / "docs" / folder).glob("*.md"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def too_long(text: str) -> list[str]:
    return [sentence for sentence in sentences(text) if words(sentence) > MOST_WORDS]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    assert too_long(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", LESSONS, ids=name_of)
def test_a_guide_begins_with_what_a_reader_learns(page: Path) -> None:
    title, empty, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ")
    assert not empty
    assert first.startswith("After this page you ")


@pytest.mark.parametrize(
    "text",
    [
        f"Short one. {LONG}.",
        f"- A point.\n- {LONG}.",
        f"1. {LONG}?",
        f"1. One:\n    - {LONG}.\n\n    {LONG[:40]}.",
        f"{LONG[:40]}\n{LONG[40:]}.",
        f"A colon: {LONG}.",
        f"Short; {LONG}.",
        f"**Bold.** {LONG}.",
        f"See [a page](that.md). {LONG} [there](page.md).",
        f"```bash\npolarcast --help\n```\n{LONG}.",
        f"<!-- table: demo -->\n| a |\n<!-- end: demo -->\n{LONG}.",
        f"<!-- demo -->\n| a |\n<!-- end of demo -->\n{LONG}.",
        f"The value <!-- value: demo.best -->1.0<!-- end --> is here. {LONG}.",
    ],
)
def test_a_long_sentence_is_found(text: str) -> None:
    assert len(too_long(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"{LONG[:60]}. {LONG[60:]}.",
        f"- {LONG[:60]}\n- {LONG[60:]}",
        f"{LONG[:60]} · {LONG[60:]}",
        f"```text\n{LONG}.\n```",
        f"  ```text\n  {LONG}.\n  ```",
        f"| {LONG}. | 2 |",
        f"# {LONG}",
        f"<!-- {LONG}. -->",
        f"<!-- demo-verdict -->\n- {LONG}.\n<!-- end of demo-verdict -->",
        f"<!-- table: demo -->\n- {LONG}.\n<!-- end: demo -->",
        f"![{LONG}](picture.png)",
        f"---\ntitle: {LONG}\n---\nText.",
    ],
)
def test_other_text_is_not_counted(text: str) -> None:
    assert too_long(text) == []


def test_a_target_of_a_link_is_no_word() -> None:
    assert words(sentences("See [the page](a/b/c.md) now.")[0]) == 4
