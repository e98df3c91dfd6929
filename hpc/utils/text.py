"""Text from others, such as names of folders, for a terminal, a CSV file, Markdown, or a script in a page."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""First characters, half or full width, that make a spreadsheet run a text cell as a formula."""
_MARKDOWN = {"\\": "\\\\", "&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "`": "\\`", "](": "]\\("}
"""Replacements in this order: the later ones contain the marks of the first."""


def printable(text: object) -> str:
    """Return text in one line, in which characters that can't be printed are escapes such as `\\x1b`.

    These are control characters, marks of direction, and bytes of file names that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: str) -> str:
    """Return text in one line, in which line ends are spaces and other characters that can't be printed are escapes."""
    return printable(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as CSV with a header, one line each.

    Text that a spreadsheet would run as a formula starts with an apostrophe; control characters are escaped.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return out.getvalue()


def is_formula(cell: str) -> bool:
    """Return whether a spreadsheet would run the text of a cell as a formula."""
    return cell.lstrip().startswith(_FORMULA) and not _is_number(cell)


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is: without HTML, links, code or further cells of a table."""
    for mark, escape in _MARKDOWN.items():
        text = text.replace(mark, escape)
    return text


def script_json(content: Any) -> str:
    """Return JSON that can't end, or change, the script element of a page that contains it."""
    text = json.dumps(content)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = printable(value)
    return f"'{text}" if is_formula(text) else text


def _is_number(text: str) -> bool:
    try:
        return text == text.strip() and bool(str(float(text)))
    except ValueError:
        return False
