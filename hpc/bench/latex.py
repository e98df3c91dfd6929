"""Tables as LaTeX with booktabs: escaped text, signs as mathematics, caption, label and notes."""

import re
from collections.abc import Sequence

from polarcast.hpc.bench.layout import TableLayout

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedblright{}", "`": r"\textasciigrave{}",
    "−": "$-$", "–": r"\textendash{}", "—": r"\textemdash{}", "…": r"\dots{}", "†": r"$^{\dagger}$", "°": r"$^{\circ}$",
    "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$", "≥": r"$\geq$", "≤": r"$\leq$", "≈": r"$\approx$",
    "≠": r"$\neq$", "×": r"$\times$", "±": r"$\pm$", "·": r"$\cdot$", "∞": r"$\infty$", "√": r"$\surd$",
    "½": r"$\frac{1}{2}$", "Δ": r"$\Delta$", "σ": r"$\sigma$", "ρ": r"$\rho$", "φ": r"$\varphi$", "µ": r"$\mu$",
    "μ": r"$\mu$",
}  # fmt: skip
"""LaTeX of characters that stand for something else, or that pdflatex lacks."""
_RAISED = {"¹": "1", "²": "2", "³": "3", "⁻": "-"} | {chr(0x2070 + digit): str(digit) for digit in (0, *range(4, 10))}
_LOWERED = {chr(0x2080 + digit): str(digit) for digit in range(10)}
_PARTS = re.compile(f"(?P<raised>[{''.join(_RAISED)}]+)|(?P<lowered>[{''.join(_LOWERED)}]+)|(?P<stars>\\*+)|.", re.S)
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9:._-]+")


def latex_text(text: str) -> str:
    """Return text that LaTeX shows as it is, in one line: signs and raised digits are mathematics, `**` is raised."""
    return "".join(map(_latex, _PARTS.finditer(" ".join(text.split()))))


def latex_table(grid: TableLayout, title: str, name: str, notes: Sequence[str] = ()) -> str:
    r"""Return a table for a LaTeX document that loads the package booktabs.

    Args:
        grid: The table as text.
        title: Its caption.
        name: Name of the table; its label is `tab:NAME`.
        notes: Lines below it.
    """
    columns = "l" * grid.labels + "r" * (len(grid.head) - grid.labels)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(title)}}}",
        rf"\label{{tab:{_NOT_IN_LABELS.sub('-', name)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(grid.head),
        r"\midrule",
        *map(_row, grid.lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if notes:
        of_notes = [rf"{_guarded(latex_text(note))}\par" for note in notes]
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", *of_notes, r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _row(cells: Sequence[str]) -> str:
    return _guarded(" & ".join(map(latex_text, cells))) + r" \\"


def _guarded(line: str) -> str:
    """Return a line that the command before it, such as the end of a row, does not take for its option."""
    return ("{}" if line.startswith(("[", "*")) else "") + line


def _latex(part: "re.Match[str]") -> str:
    if part["raised"]:
        return f"$^{{{''.join(_RAISED[digit] for digit in part['raised'])}}}$"
    if part["lowered"]:
        return f"$_{{{''.join(_LOWERED[digit] for digit in part['lowered'])}}}$"
    if part["stars"]:
        return f"$^{{{part['stars']}}}$"
    if part[0] in "-'" and part.string[part.end() : part.end() + 1] == part[0]:
        return f"{part[0]}{{}}"  # two of them would be one dash or one quotation mark
    return _ESCAPES.get(part[0], part[0])
