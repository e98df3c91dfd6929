"""Fenced blocks of the documentation, and the commands in them.

A block of `bash` or `python` has no title and is run by the tests, or a title: one that begins with "Needs" says what
it takes to run it, and a file name says that the block is the content of that file. On the pages of docs/extend, it may
also be a change of a line of a file: see tests/docs/test_extend.py, which makes these changes and runs these pages.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from docs.tools.pages import ROOT, pages

__all__ = ["EXTEND", "LANGUAGES", "ROOT", "Block", "Command", "blocks", "commands", "pages"]

LANGUAGES = ("bash", "python")
EXTEND = "docs/extend/"
_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>```+) *(?P<language>[\w+-]+)(?P<info>.*)$")
_TITLE = re.compile(r'title="([^"]*)"')
_FILE = re.compile(r"[\w./-]+\.\w+")
_CHANGE = re.compile(r"[\w./-]+\.\w+, (above|below|instead of): .+")
_ABOVE = re.compile(r"Needs the \w+ above.*")
_OPERATOR = re.compile(r"[();<>|&]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_HERE_DOCUMENT = re.compile(r"<<-? *['\"]?(\w+)['\"]?")
_SHELL_WORDS = ("do", "then", "else", "done", "fi", "time", "exec", "!", "{", "}")
_LOOPS = ("for", "while", "until", "if", "case")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """Number in the page of the first line of its text."""
    language: str
    title: str
    text: str

    @property
    def needs(self) -> bool:
        """Whether it says what it takes to run it."""
        return self.title.startswith("Needs ")

    @property
    def file(self) -> str | None:
        """File whose content it is, relative to the folder that the page's commands run in."""
        is_inside = _FILE.fullmatch(self.title) and not self.title.startswith("/") and ".." not in self.title
        return self.title if is_inside else None

    @property
    def is_change(self) -> bool:
        """Whether it changes a line of a file."""
        return bool(_CHANGE.fullmatch(self.title))

    @property
    def is_of_changed_code(self) -> bool:
        """Whether only a changed checkout can read it."""
        return self.page.startswith(EXTEND) and bool(self.file or self.is_change or _ABOVE.fullmatch(self.title))

    @property
    def is_run(self) -> bool:
        """Whether the tests run it."""
        return self.language in LANGUAGES and not self.title


@dataclass(frozen=True)
class Command:
    """A command of a block, with its continuation lines and here-document."""

    page: str
    line: int
    text: str
    words: tuple[str, ...]
    """Words and operators of the shell, without comments."""

    @property
    def where(self) -> str:
        """Page and line, as editors read them."""
        return f"{self.page}:{self.line}"

    @property
    def is_simple(self) -> bool:
        """Whether it has no operators, so that no shell is needed to run it."""
        return not any(map(_OPERATOR.fullmatch, self.words)) and self.words[0] not in _LOOPS

    @property
    def assignments(self) -> dict[str, str]:
        """Environment variables set for this command alone."""
        pairs = (word.split("=", 1) for word in self.words[: len(self.words) - len(_bare(self.words))])
        return dict(pairs)

    @property
    def programs(self) -> list[tuple[str, ...]]:
        """Words of each program that it calls, without assignments, redirections and control words."""
        found: list[list[str]] = [[]]
        words = iter(self.words)
        for word in words:
            if not _OPERATOR.fullmatch(word):
                found[-1].append(word)
            elif set(word) & set("<>"):
                next(words, None)
            else:
                found.append([])
        return [program for part in found if (program := _without_control(part))]


def _bare(words: Sequence[str]) -> list[str]:
    """Return the words after the assignments."""
    rest = list(words)
    while rest and _ASSIGNMENT.match(rest[0]):
        rest.pop(0)
    return rest


def _without_control(words: Sequence[str]) -> tuple[str, ...]:
    rest = list(words)
    while rest and rest[0] in _SHELL_WORDS:
        rest.pop(0)
    rest = _bare(rest)
    return () if rest and rest[0] in _LOOPS else tuple(rest)


def blocks(page: Path, root: Path = ROOT) -> list[Block]:
    """Return the fenced blocks of a page that name a language."""
    found: list[Block] = []
    name, lines = page.relative_to(root).as_posix(), enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        if opening := _FENCE.match(line):
            title, content = _TITLE.search(opening["info"]), list[str]()
            for _, text in lines:
                if text.strip() == opening["marks"]:
                    break
                content.append(text[len(opening["indent"]) :])
            found.append(
                Block(name, number + 1, opening["language"], title[1] if title else "", "\n".join(content) + "\n")
            )
    return found


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a block of bash. Raises ValueError for quotes that are not closed."""
    lines = enumerate(block.text.splitlines(), block.line)
    for number, line in lines:
        text = line
        while text.endswith("\\"):
            text = f"{text[:-1]} {next(lines)[1].strip()}"
        words = _words(text)
        if (document := _HERE_DOCUMENT.search(text)) and "<<" in "".join(words):
            for _, more in lines:
                text += f"\n{more}"
                if more.strip() == document[1]:
                    break
        if words:
            yield Command(block.page, number, text, tuple(words))


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    found = []
    for word in lexer:
        if word.startswith("#"):
            break
        found.append(word)
    return found
