"""Tables as LaTeX: what a reader of the typeset page sees is the text of the table."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.bench.costs import Cost
from polarcast.hpc.bench.footnotes import footnote
from polarcast.hpc.bench.latex import latex_table, latex_text
from polarcast.hpc.bench.layout import TableLayout, lay_out
from polarcast.hpc.bench.render import COST_TITLE, cost_grid, latex, markdown, write_costs, write_table
from tests.hpc.bench.test_display import a_table, records

SIGNS = {r"\downarrow": "↓", r"\uparrow": "↑", r"\rightarrow": "→", r"\geq": "≥", r"\leq": "≤", r"\times": "×",
         r"\pm": "±", r"\cdot": "·", r"\Delta": "Δ", "-": "−"}  # fmt: skip
WORDS = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
         r"\textgreater{}": ">", r"\textbar{}": "|", r"\textasciigrave{}": "`", r"\dots{}": "…",
         r"\textquotedblright{}": '"', r"\textendash{}": "–", r"\textemdash{}": "—"}  # fmt: skip
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
TOKEN = re.compile(
    r"\$\^\{(?P<raised>[^}]+)\}\$|\$(?P<sign>[^$]+)\$|(?P<word>\\[a-z]+\{\})|\\(?P<escaped>[{}$&%#_])"
    r"|(?P<ligature>--+|''+)|(?P<nothing>\{\})|(?P<plain>[^\\{}$&%#_^~])"
)
TEXTS = st.text(st.sampled_from("abcÄ 19.,:;()[]/\\{}$&%#_^~<>|\"'`-+*=−–—…†↓↑→≥≤×±·Δ¹²³⁰⁹⁻"), max_size=30)


def typeset(tex: str) -> str:
    """Return what a page shows of LaTeX text. Fails on characters that LaTeX would take for commands."""
    shown, position = "", 0
    while position < len(tex):
        found = TOKEN.match(tex, position)
        assert found, f"LaTeX would trip over {tex[position:]!r}"
        kind = str(found.lastgroup)
        value = found[kind]
        if kind == "raised":
            shown += value if set(value) == {"*"} else {r"\dagger": "†"}.get(value, value.translate(RAISED))
        else:
            of_kind = {"sign": SIGNS, "word": WORDS, "ligature": {value: "(another sign)"}, "nothing": {"{}": ""}}
            shown += of_kind.get(kind, {}).get(value, value)
        position = found.end()
    return shown


def rows_of(tex: str) -> list[list[str]]:
    """Return the cells of each row of the only table, as typeset."""
    _, _, inside = tex.partition(r"\toprule")
    lines = inside.partition(r"\bottomrule")[0].strip().splitlines()
    assert lines[1] == r"\midrule"
    rows = [lines[0], *lines[2:]]
    assert all(row.endswith(r" \\") for row in rows)
    return [[typeset(cell) for cell in re.split(r"(?<!\\) ?& ?", row.removesuffix(r" \\"))] for row in rows]


@given(TEXTS)
def test_a_page_shows_the_text(text: str) -> None:
    assert typeset(latex_text(text)) == " ".join(text.split())


@given(st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=4), TEXTS, TEXTS)
def test_a_table_has_its_rows_caption_label_and_notes(rows: list[list[str]], title: str, note: str) -> None:
    plain = [[" ".join(cell.split()) for cell in row] for row in rows]
    tex = latex_table(TableLayout(plain[0], plain[1:], 1), title, "a b_%", [note])
    assert rows_of(tex) == plain
    lines = tex.splitlines()
    assert r"\begin{tabular}{lrr}" in lines
    assert r"\label{tab:a-b_-}" in lines
    [caption] = [line for line in lines if line.startswith(r"\caption{")]
    assert typeset(caption.removeprefix(r"\caption{").removesuffix("}")) == " ".join(title.split())
    below = lines[lines.index(r"\begin{minipage}{\linewidth}\footnotesize") + 1]
    assert typeset(below.removesuffix(r"\par")) == " ".join(note.split())
    for name in ("table", "tabular", "minipage"):
        assert tex.count(rf"\begin{{{name}}}") == tex.count(rf"\end{{{name}}}") == 1
    # The end of a row takes a bracket or a star for its option.
    assert not any(line.startswith(("[", "*")) for line in lines)


def test_a_table_is_written_with_marks_units_and_notes(tmp_path: Path) -> None:
    table = replace(a_table(records(3.0), records(1.5, 1), "rmse", "nb", "csi@threshold=10"), title="50% & more")
    write_table(tmp_path, table)
    tex = (tmp_path / "t.tex").read_text("utf-8")
    assert tex == latex(table)
    grid = lay_out(table)
    assert rows_of(tex) == [grid.head, *grid.lines]
    assert r"\caption{50\% \& more}" in tex
    assert r"\label{tab:t}" in tex
    assert r"RMSE [mm/h] $\downarrow$" in tex
    assert r"$^{**}$" in tex
    assert "$-$" in tex
    notes = [line.removesuffix(r"\par") for line in tex.splitlines() if line.endswith(r".\par")]
    assert [typeset(note) for note in notes] == footnote(table).splitlines()


def test_costs_are_written_in_all_forms(tmp_path: Path) -> None:
    costs = [Cost("net", "Net_1", "radar", 990, 2e6, 1e6), Cost("net", "Net_1", "dualpol", 1000, 2.2e6, None)]
    write_costs(tmp_path, costs)
    assert {file.name for file in tmp_path.iterdir()} == {f"cost.{kind}" for kind in ("json", "csv", "md", "tex")}
    grid = cost_grid(costs)
    assert rows_of((tmp_path / "cost.tex").read_text()) == [grid.head, *grid.lines]
    text = (tmp_path / "cost.md").read_text()
    assert text.startswith(f"**{COST_TITLE}**\n\n| model | arm |")
    assert "| Net_1 | radar | 990 | 0.990 |" in text


def test_markdown_did_not_change() -> None:
    lines = markdown(a_table(records(3.0), records(1.5, 1), "rmse")).splitlines()
    assert lines[:2] == ["**T**", ""]
    assert lines[3] == "|---|---|---:|---:|---:|---:|"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex")
def test_pdflatex_accepts_a_table(tmp_path: Path) -> None:
    table = replace(a_table(records(3.0), records(1.5, 1), "rmse", "nb", "csi@threshold=*"), title='[50%] & "more" −·²')
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{latex(table)}\end{{document}}"
    (tmp_path / "t.tex").write_text(text, "utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
