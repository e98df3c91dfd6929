"""Tables of a robustness analysis: where the gain is gone, and all scores."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polarcast.data.degrade.perturbation import NONE, level_text
from polarcast.data.files import write_text
from polarcast.hpc.bench.robustness.result import Number, RobustCurve, Robustness, rows_of
from polarcast.hpc.utils.text import csv_text, markdown_text

HEAD = ("score", "perturbation", "model", "gain without", "gain with", "gone at")
NO_GAIN = "no gain shown without it"
"""Instead of a level, where the interval of the gain contains 0 already without the perturbation."""
_BEST_AT = {True: "gain = 1 − dual-pol ÷ radar", False: "gain = dual-pol − radar"}


def write_tables(folder: Path, result: Robustness, figures: Sequence[Path]) -> None:
    """Write `robustness.md`, with the figures of the same folder, and `robustness.csv`, with all numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "robustness.md", markdown(result, figures))
    rows = rows_of(result)
    write_text(folder / "robustness.csv", csv_text(rows, list(rows[0])))


def lines_of(result: Robustness) -> list[list[str]]:
    """Return a line for each curve, or for each level without order; the columns are those of `HEAD`."""
    return [line for curve in result.curves for line in _lines(curve, result)]


def _lines(curve: RobustCurve, result: Robustness) -> list[list[str]]:
    label, unit = result.labels[curve.perturbation]
    score = next(s for s in result.scores if s.score == curve.score)
    model = next(m.label for m in result.models if m.model == curve.model)
    gains = {point.level: point.gain for point in curve.points}
    without = _number(gains[NONE if curve.neutral is None else curve.neutral], score.is_ratio)
    if curve.neutral is None:
        names = {level: _with_unit(f"{label}: {level_text(level)}", unit) for level in gains if level != NONE}
        return [
            [score.heading, name, model, without, _number(gains[level], score.is_ratio), ""]
            for level, name in names.items()
        ]
    ends = [f"{_with_unit(level_text(side.reach), unit)}: {_value(gains[side.reach], score.is_ratio)}"
            for side in curve.gone]  # fmt: skip
    before = gains[curve.neutral]
    no_gain = before.low is not None and before.low <= 0
    gone = [NO_GAIN] if no_gain else ["–"] if before.value is None else [side.text(unit) for side in curve.gone]
    return [[score.heading, label, model, without, "; ".join(ends), "; ".join(gone)]]


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text


def _number(number: Number, is_ratio: bool) -> str:
    """Format a gain with its interval."""
    limits = [_format(limit, is_ratio) for limit in (number.low, number.high) if limit is not None]
    return _value(number, is_ratio) + (f" [{', '.join(limits)}]" if limits else "")


def _value(number: Number, is_ratio: bool) -> str:
    return "–" if number.value is None else _format(number.value, is_ratio)


def _format(value: float, is_ratio: bool) -> str:
    """Format a gain, in percent if it is a ratio."""
    return f"{value:+.0%}" if is_ratio else f"{value:+.3f}"


def notes_of(result: Robustness) -> list[str]:
    """Return what a reader needs to know of the numbers."""
    kinds = list(dict.fromkeys(_BEST_AT[score.is_ratio] for score in result.scores))
    counted = f"{result.events} test events in {result.groups} groups"
    notes = [f"{' (errors), '.join(kinds)}; positive if dual-pol is better; both arms are perturbed alike.",
             f"{counted}; {result.intervals}. Gone at: first level at which the gain is 0, in brackets the levels at "
             "which its interval contains 0; beyond: not within the levels examined."]  # fmt: skip
    if any(model.lacks_seeds for model in result.models):
        notes.append(
            "One training run of an arm: the intervals hold for these runs on other storms, not for the model."
        )
    trained = [f"{m.label} ({', '.join(m.degrade)})" for m in result.models if m.degrade]
    notes += [f"Trained with perturbations: {'; '.join(trained)}."] if trained else []
    return [*notes, *([f"Left out: {'; '.join(result.left_out)}."] if result.left_out else [])]


def markdown(result: Robustness, figures: Sequence[Path] = ()) -> str:
    """Return the table and its notes as Markdown."""
    rows = [HEAD, ["---"] * len(HEAD), *lines_of(result)]
    lines = ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    notes = [f"- {markdown_text(note)}" for note in notes_of(result)]
    shown = [f"![{figure.stem}]({figure.name})" for figure in figures]
    return "\n".join([f"**Robustness of {markdown_text(result.suite)}**", "", *lines, "", *notes, "", *shown, ""])


def terminal_table(result: Robustness) -> Table:
    """Return the table for a terminal."""
    caption = escape("\n".join(notes_of(result)))
    title = escape(f"Robustness of {result.suite}")
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for name in HEAD:
        table.add_column(name)
    for line in lines_of(result):
        table.add_row(*map(escape, line))
    return table
