"""Markdown of the generated pages: text of docstrings, code spans and tables."""

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]+`)")
_SPECIAL = str.maketrans({"<": "&lt;", "*": r"\*", "{": "&#123;", "[": r"\[", "_": r"\_"})


def escaped(text: str) -> str:
    """Return text in which characters that mean something in Markdown are shown as they are, except in code spans."""
    return "".join(part if part.startswith("`") else part.translate(_SPECIAL) for part in _CODE.split(text))


def code(text: object) -> str:
    """Return a code span."""
    return f"`{text}`"


def paragraphs(docstring: str | None) -> list[str]:
    """Return the paragraphs of a docstring, each in one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", docstring or "") if part.strip()]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells in Markdown."""
    lines = [list(columns), ["---"] * len(columns), *map(list, rows)]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def wide(text: str) -> str:
    """Return a table whose fourth column holds sentences, and keeps a width that suits them."""
    return f'<div class="wide" markdown>\n\n{text}\n</div>'


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())
