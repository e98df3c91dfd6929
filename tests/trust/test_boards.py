"""Pages, tables and CSV files show text of others as text, and are written whole or not at all."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from polarcast.hpc.bench.render import markdown, terminal_table, write_table
from polarcast.hpc.bench.report import write_report
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec
from polarcast.hpc.bench.table import ComparisonTable, build_table
from polarcast.hpc.leaderboard import page
from polarcast.hpc.leaderboard.entry import find_entries
from polarcast.hpc.leaderboard.ranking import make_boards
from polarcast.hpc.utils.text import csv_text, markdown_text, printable, script_json
from tests.trust.test_bad_runs import KNOWN, a_run, records

Run = Callable[..., tuple[int, str, str]]
SCRIPTS = ["<!--<script>", "<script>alert(1)<", "<img src=x onerror=document.title=1>", "&lt;b&gt;", "`${1}`"]
FORMULAS = ["=cmd|' C'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1",
            "\uff1d1", "\uff0b1", "\uff0d2+3", "\uff20S"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("boards") / "runs"
    for number, name in enumerate([*SCRIPTS, "=cmd|' C'!A0", "sh[red]x[", "[bold]y"]):
        a_run(root / name, 1.0 + number)
    bad = a_run(root / "[link=x]bad", 1.0)
    (bad / "scores.parquet").write_bytes(b"")
    hostile = {**KNOWN["data"], "archive": {"name": "</script><script>document.title=2</script>[red]"}}  # type: ignore[dict-item]
    for run in root.iterdir():
        (run / "provenance.json").write_text(json.dumps({**KNOWN, "data": hostile}))
    return root


def test_text_of_others_does_not_leave_its_place_in_a_page(runs: Path) -> None:
    content = page.as_page(make_boards(find_entries([runs])))
    assert content.count("<script") == content.count("</script>") == 1
    assert "<!--" not in content
    assert "innerHTML" not in content
    data = re.search(r"const BOARDS = (.*);\n", content)
    assert data
    assert {row[1] for row in json.loads(data[1])[0]["rows"]} >= {*SCRIPTS, "sh[red]x["}


@pytest.mark.browser
def test_names_run_nothing_in_a_browser(runs: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome") or pytest.skip("no browser: install chromium")
    (tmp_path / "board.html").write_text(page.as_page(make_boards(find_entries([runs]))), "utf-8")
    command = [
        str(browser),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        f"file://{tmp_path}/board.html",
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>polarcast leaderboard</title>" in shown
    assert "<img" not in shown
    assert "&lt;!--&lt;script&gt;" in shown
    assert "document.title=2&lt;/script&gt;[red]" in shown
    assert len(re.findall(r"<tr", shown)) == 9
    assert "not ranked: [link=x]bad" in shown


def test_no_cell_of_a_csv_file_is_a_formula(runs: Path) -> None:
    rows = list(csv.reader(io.StringIO(page.as_csv(make_boards(find_entries([runs]))))))
    assert len(rows) == 9
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@", "-"))]
    written = list(csv.reader(io.StringIO(csv_text([{"=x": text} for text in FORMULAS], ["=x"]), newline="")))
    assert "".join(cell[0] for row in written for cell in row) == "'" * 5 + "\\" * 2 + "'" * 5


def test_numbers_of_a_csv_file_stay_numbers() -> None:
    assert (
        csv_text([{"a": -1.5, "b": None, "c": "-3e-5", "d": True}], ["a", "b", "c", "d"])
        == "a,b,c,d\n-1.5,,-3e-5,True\n"
    )


def test_brackets_of_names_are_no_markup_on_a_terminal(runs: Path, polarcast_here: Run) -> None:
    code, out, _ = polarcast_here("leaderboard", runs)
    assert code == 0
    for text in ("sh[red]x[", "[bold]y", "[mm/h]", "not ranked: [link=x]bad"):
        assert text in out


@pytest.fixture
def table() -> ComparisonTable:
    spec = TableSpec(title="RMSE [mm/h] of [/red] <b>|x")
    suite = Suite(name="s", models={"net": ModelSpec(label="=Net [/bold] | <i> [a](b)")}, tables={"t": spec})
    return build_table("t", suite, {("net", "radar"): [records()], ("net", "dualpol"): [records(1.1)]}, "note [/] <u>")


def test_texts_of_a_suite_are_no_markup(table: ComparisonTable, tmp_path: Path) -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(terminal_table(table))
    shown = console.export_text()
    assert "RMSE [mm/h] of [/red]" in shown
    assert "=Net [/bold] | <i> [a](b)" in shown
    text = markdown(table)
    assert not re.search(r"<[bui]>|[^\\]\]\(", text)
    rows = [line for line in text.splitlines() if line.startswith("| =Net")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in rows)
    write_table(tmp_path, table)
    assert "\n=Net" not in (tmp_path / "t.csv").read_text()
    assert "'=Net" in (tmp_path / "t.csv").read_text()
    write_report(tmp_path / "r.html", "</title><script>", {"t": table}, [], {"<b>": "</pre><script>"}, with_paper=False)
    report = (tmp_path / "r.html").read_text("utf-8")
    assert report.count("<script") == report.count("</script>") == 1  # that of the page itself, at its end
    assert not re.search(r"<script|<b>|<i>|<u>", report.rpartition("<script>")[0])


def test_texts_are_escaped_once() -> None:
    assert markdown_text("a|b\\|<&`[x](y)") == "a\\|b\\\\\\|&lt;&amp;\\`[x]\\(y)"
    assert printable("ü\x1b[2J\n\udcff\u202e") == "ü\\x1b[2J\\n\\udcff\\u202e"
    assert script_json("</a>&\u2028") == '"\\u003c/a\\u003e\\u0026\\u2028"'


@pytest.mark.parametrize("option", ["--html", "--csv"])
def test_an_output_that_can_not_be_written_ends_nothing_late(
    runs: Path, tmp_path: Path, polarcast_here: Run, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("polarcast.hpc.leaderboard.entry.find_entries", lambda _: pytest.fail("the work began"))
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file" / "board", tmp_path / ("x" * 300)):
        code, _, message = polarcast_here("leaderboard", runs, option, place)
        assert (code, len(message.splitlines())) == (2, 1), message
    same = tmp_path / "board"
    assert polarcast_here("leaderboard", runs, "--html", same, "--csv", same)[0] == 2


def test_a_full_disk_leaves_the_page_of_before(
    runs: Path, tmp_path: Path, polarcast_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    html = tmp_path / "b.html"
    html.write_text("before")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, message = polarcast_here("leaderboard", runs, "--html", html)
    assert code != 0
    assert len(message.splitlines()) == 1, message
    assert "No space left" in message
    assert [p.name for p in tmp_path.iterdir()] == ["b.html"]
    assert html.read_text() == "before"
