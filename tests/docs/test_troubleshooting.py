"""Each message that the page on troubleshooting quotes is still one of the code, but for the parts shown as `…`."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from polarcast.hpc.utils import exit_codes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guides/troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^- \*\*(.+?)\*\*", PAGE, re.M | re.S)
"""Quoted messages, with the marks of code."""
GAP = "…"


def messages() -> list[str]:
    """Return all quoted messages, each in one line."""
    return [" ".join(span.split()) for entry in ENTRIES for span in re.findall(r"`([^`]+)`", entry)]


def texts_of(source: str) -> Iterator[str]:
    """Yield the texts of a module but its docstrings, with a gap for each value that is filled in."""
    nodes = list(ast.walk(ast.parse(source)))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else GAP for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%(\(\w+\))?[sd]|%\.0f", GAP, node.value)


@cache
def texts() -> tuple[str, ...]:
    files = [file for name in ("data", "models", "hpc", "sweeps", "slurm") for file in (ROOT / name).rglob("*.py")]
    return tuple(text for file in files for text in texts_of(file.read_text(encoding="utf-8")))


def stands_in(message: str, text: str) -> bool:
    """Whether the parts of a message stand in a text, in their order, with something else in each gap."""
    parts = [re.escape(part.strip()) for part in message.split(GAP) if part.strip()]
    return bool(re.search(r"\s*.*?".join(parts), text, re.S))


def pieces(message: str) -> list[str]:
    """Return the parts of a message that code may join: what is wrong, its fix, and texts of other modules."""
    return [part for part in re.split(r" — |; (?=lower )", message) if part.strip(f" {GAP};:")]


@pytest.mark.parametrize("message", messages())
def test_a_message_is_one_of_the_code(message: str) -> None:
    lost = [piece for piece in pieces(message) if not any(stands_in(piece, text) for text in texts())]
    assert lost == []


def test_there_are_enough() -> None:
    assert len(messages()) >= 60


def test_every_message_has_an_answer() -> None:
    assert len(re.findall(r"^- \*\*.+?\*\* · [\w`]", PAGE, re.M | re.S)) == len(ENTRIES)


def test_exit_codes_are_those_of_the_code() -> None:
    codes = {str(value) for name, value in vars(exit_codes).items() if name.isupper()}
    assert set(re.findall(r"^\| (\d+) \|", PAGE, re.M)) == codes


def test_a_changed_message_is_found() -> None:
    source = 'raise BadInput(f"{n} samples can\'t be divided among {m} processes", "x", "give a multiple")'
    quoted = "… samples can't be divided among … processes"
    assert any(stands_in(quoted, text) for text in texts_of(source))
    assert not any(stands_in(quoted.replace("divided", "split"), text) for text in texts_of(source))
