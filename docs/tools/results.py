"""Tables and figures of the documentation, rendered from docs/results/*.json into the pages that show them.

`make results` rewrites the pages. `python -m docs.tools.results --check` names what is out of step.
Marks in a page:

    <!-- table: NAME -->        the table (or the list of sentences) of NAME.json, and where it comes from
    <!-- end: NAME -->
    <!-- origin: NAME -->       only where the results of NAME.json come from
    <!-- end: NAME -->
    In a sentence, <!-- value: NAME.key -->12%<!-- end --> is one figure.

A JSON file has a title; a table (columns, rows of Markdown), lines or values; a note; the command, revision, machine
and date. A file with a `source` is a view: it selects and renames columns and rows of the source, or names its values.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from docs.tools import coverage_page, power_page, question_four_page, real_transfer_page
from docs.tools.markdown import table as markdown
from docs.tools.pages import ROOT, pages
from polarcast.hpc.scores.wording import effect, size

Result = Mapping[str, Any]
ORIGIN = ("command", "revision", "machine", "date")
MARK = re.compile(r"(?<!`)<!-- (?:(?P<kind>table|origin|value|end): (?P<name>[^>]+?)|(?P<short>end)) -->")
FENCE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[ ]*$", re.M | re.S)
BEGINS_A_LINE = re.compile(r"\s*(?:[-*+>]\s+|\d+[.)]\s+)*")
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
OTHER_PAGES: Mapping[Path, Callable[[str], str]] = {
    coverage_page.PAGE: coverage_page.page_with_tables,
    coverage_page.ARMS_PAGE: coverage_page.page_with_tables,
    power_page.PAGE: power_page.page_with_tables,
    question_four_page.PAGE: question_four_page.page_with_tables,
    real_transfer_page.PAGE: real_transfer_page.page_with_tables,
}
"""Pages with tables that have a maker of their own, and the makers."""
OTHER_RESULTS = {*coverage_page.TABLES, "coverage-effects", *power_page.TABLES, "question-four", "real-transfer"}


class ResultsError(Exception):
    """A mark or a JSON file that can't be rendered, in one line."""


@dataclass(frozen=True)
class Mark:
    """One mark of a page."""

    kind: str
    name: str
    start: int
    end: int

    def closes(self, other: "Mark") -> bool:
        """Return whether this is the end of another mark: by name, or the short end of a value."""
        return self.kind == "end" and self.name == ("" if other.kind == "value" else other.name)


# JSON files


def read_results(folder: Path) -> dict[str, Result]:
    """Return all results of a folder by their name."""
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def _read(path: Path) -> Result:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ResultsError(f"{path.name}: not a JSON object: {error}") from None


def find(name: str, results: Mapping[str, Result]) -> Result:
    """Return a result; of a view, the selected part of its source."""
    if name not in results:
        raise ResultsError(f"no results called {name!r} in docs/results")
    found = results[name]
    if "source" not in found:
        return found
    source = find(found["source"], {key: value for key, value in results.items() if key != name})
    merged = {**source, **found}
    return {**merged, "table": _selected(name, source["table"], found)} if "table" in source else merged


def _selected(name: str, table: Result, view: Result) -> Result:
    """Select, rename and transpose columns and rows of a table."""
    columns = view.get("columns", {column: column for column in table["columns"]})
    at = [_position(name, "column", column, table["columns"]) for column in columns]
    labels = [row[0] for row in table["rows"]]
    kept = [table["rows"][_position(name, "row", label, labels)] for label in view.get("rows", labels)]
    rows = [[row[i] for i in at] for row in kept]
    if "transpose" not in view:
        return {"columns": list(columns.values()), "rows": rows}
    corner, *labels = columns.values()
    turned = [list(cells) for cells in zip(labels, *(row[1:] for row in rows), strict=True)]
    return {"columns": [view["transpose"] or corner, *(row[0] for row in rows)], "rows": turned}


def _position(name: str, what: str, label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        raise ResultsError(f"{name}.json: no {what} {label!r}")
    return labels.index(label)


def faults(results: Mapping[str, Result]) -> Iterator[str]:
    """Name each file that lacks a part, or whose rows are not as long as its columns."""
    for name, result in results.items():
        needed = () if name in OTHER_RESULTS else ("title",) if "source" in result else ("title", *ORIGIN)
        for part in needed:
            if not result.get(part):
                yield f"docs/results/{name}.json: no {part!r}"
        table = result.get("table", {"columns": [], "rows": []})
        if any(len(row) != len(table["columns"]) for row in table["rows"]):
            yield f"docs/results/{name}.json: a row is not as long as the columns"


# JSON → Markdown


def table_text(name: str, results: Mapping[str, Result]) -> str:
    """Return the table or the sentences of a result, its note, and where it comes from."""
    found = find(name, results)
    if "table" in found:
        body = markdown(found["table"]["columns"], found["table"]["rows"]).rstrip()
    elif "lines" in found:
        body = "\n".join(f"- {line}" for line in found["lines"])
    else:
        raise ResultsError(f"{name}.json: no table")
    note = [found["note"]] if found.get("note") else []
    return "\n\n".join([body, *note, origin_text(name, results)])


def origin_text(name: str, results: Mapping[str, Result]) -> str:
    """Return the small line below a table: command, revision, machine and date."""
    found = find(name, results)
    missing = [part for part in ORIGIN if not found.get(part)]
    if missing:
        raise ResultsError(f"{name}.json: no {missing[0]!r}")
    command = found["command"] if found["command"] == "not recorded" else f"`{found['command']}`"
    rest = f"Revision: {found['revision']}. Machine: {found['machine']}. {found['date']}."
    return fill(f"<small>Command: {command}. {rest}</small>", 118, break_long_words=False, break_on_hyphens=False)


def value_text(name: str, results: Mapping[str, Result]) -> str:
    """Return the figure `NAME.key`: as it is stored, a cell of the table, or a record of a suite's table."""
    of, _, key = name.partition(".")
    found = find(of, results)
    if key not in found.get("values", {}):
        raise ResultsError(f"{of}.json: no value {key!r}")
    value = found["values"][key]
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        tables = found.get("tables", {})
        return _record(of, value, tables.get(value["table"], ()) if "table" in value else found.get("records", ()))
    return _cell(of, value, found.get("table", {"columns": [], "rows": []}))


def _cell(name: str, at: Sequence[str], table: Result) -> str:
    """Return a cell by the labels of its row and column, without marks of the best value."""
    row = _position(name, "row", at[0], [row[0] for row in table["rows"]])
    return str(table["rows"][row][_position(name, "column", at[1], table["columns"])]).replace("**", "")


def _record(name: str, wanted: Result, records: Iterable[Result]) -> str:
    """Return a comparison in the form that is wanted: `effect` is a value with its interval."""
    keys = ("label", "metric", "arm")
    record = next((r for r in records if all(r[key] == wanted[key] for key in keys)), None)
    if record is None:
        raise ResultsError(f"{name}.json: no record of {', '.join(str(wanted[key]) for key in keys)}")
    scale = record["scale"]
    limits = [effect(record[end], scale) for end in ("low", "high")]
    sizes = sorted((abs(record[end]), size(record[end], scale)) for end in ("low", "high"))
    forms = {
        "effect": f"{effect(record['value'], scale)} [{', '.join(limits)}]",
        "size": size(record["value"], scale),
        "size interval": f"[{', '.join(text for _, text in sizes)}]",
        "seeds": COUNTS[record["seeds"]],
        "events": f"{record.get('events', record.get('groups')):,}",
    }
    if wanted["form"] not in forms:
        raise ResultsError(f"{name}.json: no form {wanted['form']!r}; there are {', '.join(forms)}")
    return forms[wanted["form"]]


# Pages


def marks(text: str) -> list[Mark]:
    """Return the marks of a page in order, without those in code."""
    fences = [match.span() for match in FENCE.finditer(text)]
    found = [m for m in MARK.finditer(text) if not any(start <= m.start() < end for start, end in fences)]
    return [Mark(m["kind"] or "end", m["name"] or "", *m.span()) for m in found]


def pairs(text: str) -> Iterator[tuple[Mark, Mark]]:
    """Return each mark of a table, an origin or a value with its end."""
    opened: Mark | None = None
    for mark in marks(text):
        if opened is None:
            if mark.kind == "end":
                raise ResultsError(f"line {_line(text, mark)}: an end without a beginning")
            _check_place(text, mark)
            opened = mark
        elif mark.closes(opened):
            yield opened, mark
            opened = None
        else:
            break
    if opened:
        raise ResultsError(f"line {_line(text, opened)}: {opened.kind} {opened.name} is not closed")


def _check_place(text: str, mark: Mark) -> None:
    """Check that a table has a line of its own, and that no value begins a line: Markdown would end the paragraph."""
    before = text[text.rfind("\n", 0, mark.start) + 1 : mark.start]
    if mark.kind == "value" and BEGINS_A_LINE.fullmatch(before):
        raise ResultsError(f"line {_line(text, mark)}: value {mark.name} begins a line, which ends the paragraph")
    if mark.kind != "value" and (before or text[mark.end : mark.end + 1] != "\n"):
        raise ResultsError(f"line {_line(text, mark)}: {mark.kind} {mark.name} needs a line of its own")


def _line(text: str, mark: Mark) -> int:
    return text.count("\n", 0, mark.start) + 1


def rendered(text: str, results: Mapping[str, Result]) -> str:
    """Return a page with its tables, origins and values as in the results."""
    parts, position = [], 0
    for first, last in pairs(text):
        parts += [text[position : first.end], _content(first, results)]
        position = last.start
    return "".join([*parts, text[position:]])


def _content(mark: Mark, results: Mapping[str, Result]) -> str:
    if mark.kind == "value":
        return value_text(mark.name, results)
    block = table_text if mark.kind == "table" else origin_text
    return f"\n{block(mark.name, results)}\n"


def used(texts: Iterable[str], results: Mapping[str, Result]) -> set[str]:
    """Return the names of results that pages show, with the sources of views, and those of other makers."""
    names = {mark.name.split(".")[0] for text in texts for mark in marks(text) if mark.kind != "end"}
    sources = {results[name]["source"] for name in names if "source" in results.get(name, {})}
    return names | sources | OTHER_RESULTS


def render_all(root: Path = ROOT) -> tuple[dict[Path, tuple[str, str]], list[str]]:
    """Return each page as it is and as it should be, and what is wrong with marks and results."""
    try:
        results = read_results(root / "docs/results")
    except ResultsError as error:
        return {}, [f"docs/results/{error}"]
    found, wrong = {}, list(faults(results))
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        try:
            found[page] = text, rendered(OTHER_PAGES.get(page, str)(text), results)
        except ResultsError as error:
            wrong.append(f"{page.relative_to(root)}: {error}")
            found[page] = text, text
    unused = results.keys() - used((text for text, _ in found.values()), results)
    return found, wrong + [f"docs/results/{name}.json: no page shows it" for name in sorted(unused)]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Rewrite the pages, or check them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.tools.results", description="Write results into the pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; name the pages that are out of step")
    check = parser.parse_args(arguments).check
    found, wrong = render_all(root)
    for page, (old, new) in found.items():
        if old == new:
            continue
        name = page.relative_to(root)
        if check:
            wrong.append(f"{name}: out of step with docs/results; run `make results`")
        else:
            page.write_text(new, encoding="utf-8")
            print(name)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
