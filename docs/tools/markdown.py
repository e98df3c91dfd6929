"""Markdown of generated pages and tables: text of docstrings, code spans, tables, and parts between marks."""

import re
from collections.abc import Iterable, Mapping, Sequence

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


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without a line break at its end, as it stands between marks of a page."""
    return table(columns, rows).rstrip()


def filled(text: str, parts: Mapping[str, str]) -> str:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`, for each part that a page has."""
    for name, part in parts.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if start in text:
            before, after = text.index(start) + len(start), text.index(end)
            text = text[:before] + part + text[after:]
    return text


def wide(text: str) -> str:
    """Return a table whose fourth column holds sentences, and keeps a width that suits them."""
    return f'<div class="wide" markdown>\n\n{text}\n</div>'


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())
