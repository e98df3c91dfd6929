"""Sentences of the pages; the tests limit their length."""

import re

_NOT_PROSE = (
    r"\A---\n.*?^---$",  # settings of a page
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})[^\n]*\n.*?^(?P=indent)(?P=fence) *$",
    r"<!-- (?P<part>[\w-]+) -->\n.*?<!-- end of (?P=part) -->",
    r"<!-- (?:table|origin): (?P<result>[^>]+?) -->\n.*?<!-- end: (?P=result) -->",
    r"<!--.*?-->",
    r"^ *(?:\||#|!\[).*?$",  # tables, headings and images
    r"</?\w[^>]*>",
)
_LINK = re.compile(r"\]\([^)]*\)")
_NEW_BLOCK = re.compile(r"\n\s*\n|\n(?= *(?:[-*+]|\d+\.) )")
_END = re.compile(r"(?<=[.?!])[\"*_)]*\s+|\s·\s")  # a middle dot divides entries
_WORD = re.compile(r"[\w/`.%\-]+")


def sentences(page: str) -> list[str]:
    """Return the sentences of a page, without code, tables, headings, comments, rendered parts and link targets.

    A sentence ends at a full stop, question or exclamation mark before a space. An item of a list is a text of its own.
    """
    for pattern in _NOT_PROSE:
        page = re.sub(pattern, "", page, flags=re.S | re.M)
    parts = (" ".join(block.split()) for block in _NEW_BLOCK.split(_LINK.sub("]", page)))
    return [sentence for part in parts for sentence in _END.split(part) if sentence]


def words(sentence: str) -> int:
    """Return the number of words of a sentence."""
    return len(_WORD.findall(sentence))
