"""The page of a sweep: best trial, all trials, figures, settings, and the commands that continue it."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polarcast.data.files import read_limited, write_text
from polarcast.data.folder_kind import SWEEP_FILE
from polarcast.data.secrets import redacted
from polarcast.hpc.utils.pages import elements
from polarcast.hpc.utils.pages.page import render_page
from polarcast.hpc.utils.pages.tables import PageCell, PageColumn, PageFilter, PageRow, page_table
from polarcast.hpc.utils.text import printable
from polarcast.sweeps.record import COMPLETE, STATES, Trial
from polarcast.sweeps.render import CAPTIONS, paired_line, remark_of, short
from polarcast.sweeps.result import Result

FILE = "report.html"
_FEW = 6
"""Values up to which a parameter has a filter of its own."""


def write_page(folder: Path, result: Result, command: Sequence[str]) -> Path:
    """Write `report.html` into the folder of a sweep, from its trial records, figures and settings.

    Args:
        folder: Folder of the sweep.
        result: Its trials.
        command: Words of the command that runs the sweep, from `polarcast` on, without `--resume`.

    Returns:
        The file.
    """
    pictures = [folder / "figures" / f"{name}.png" for name in CAPTIONS]
    sections = {
        "setting": ("What was searched", [elements.facts(_setting(result))]),
        "trials": ("Trials", [_trials(result), elements.notes([_ABOUT])]),
        "figures": ("Figures", _figures([picture for picture in pictures if picture.is_file()])),
        "provenance": ("Settings, and how to go on", _settings(folder, result, command)),
    }
    shown = {name: of for name, of in sections.items() if of[1]}
    parts = [
        *_best(result),
        elements.contents({name: title for name, (title, _) in shown.items()}),
        *(line for name, (title, lines) in shown.items() for line in elements.section(name, title, lines)),
    ]
    write_text(folder / FILE, render_page(f"polarcast sweep: {result.space.name}", parts))
    return folder / FILE


_ABOUT = (
    "Validation scores of a search are too good: the best of many is partly luck. Train the best configuration with "
    "other seeds, and score it on the test split."
)


def _best(result: Result) -> list[str]:
    best, space = result.best, result.space
    lines = ["No trial is complete yet."]
    if best and best.value is not None:
        point = ", ".join(f"{name} {short(value)}" for name, value in _point(best, result))
        lines = [f"Best of {result.count(COMPLETE)} complete trials: {space.objective} {best.value:.4g} with {point}."]
    lines += [line + "."] if (line := paired_line(result)) else []
    return elements.verdict("Result", map(printable, lines))


def _setting(result: Result) -> list[tuple[str, str]]:
    space, (spent, saved) = result.space, result.hours
    file = space.file
    states = ", ".join(f"{result.count(state)} {state}" for state in STATES if result.count(state))
    better = "lower" if space.smaller_is_better else "higher"
    return [
        ("objective", f"{file.objective}, {better} is better"),
        ("search", file.search + (", with early stopping" if file.early_stopping else "")),
        ("preset", file.preset),
        ("arms", ", ".join(space.arms)),
        ("trials", f"{len(result.trials)}: {states}" if states else "0"),
        ("process-hours", f"{spent:.3g} used, {saved:.3g} saved by early stopping"),
        *((f"searched: {p.key}", printable(_range(file.parameters[p.key]))) for p in space.parameters),
    ]


def _range(spec: Any) -> str:
    """Return the range of a parameter, such as `log_uniform: 0.0005 to 0.02` or `choice: log1p, sqrt`."""
    if not (isinstance(spec, dict) and len(spec) == 1):
        return str(spec)
    [(kind, values)] = spec.items()
    joint = ", " if kind == "choice" else " to "
    return f"{kind}: {joint.join(map(str, values))}" if isinstance(values, list) else f"{kind}: {values}"


def _trials(result: Result) -> str:
    space = result.space
    arms = space.arms if len(space.arms) > 1 else ()
    names = [parameter.key.split(".", 1)[-1] for parameter in space.parameters]
    mark = "↓" if space.smaller_is_better else "↑"
    columns = [
        PageColumn("trial", is_label=True), PageColumn("state", is_label=True),
        *(PageColumn(f"{name} {mark}") for name in (space.objective, *arms)), PageColumn("step"),
        PageColumn("minutes"), *map(PageColumn, names), PageColumn("remark", is_label=True),
    ]  # fmt: skip
    rows = [_row(trial, result, arms) for trial in result.trials]
    filters = [PageFilter("state", "state", _values(rows, "state"))]
    filters += [PageFilter(name, name, found) for name in names if len(found := _values(rows, name)) <= _FEW]
    return page_table("trials", f"Trials of {space.name}", columns, rows, filters)


def _row(trial: Trial, result: Result, arms: Sequence[str]) -> PageRow:
    by_arm = trial.reports[-1].by_arm if trial.reports else {}
    point = _point(trial, result)
    cells = [
        PageCell(printable(trial.key)), PageCell(trial.state),
        *(_number(value) for value in (trial.value, *map(by_arm.get, arms))), PageCell(str(trial.step), trial.step),
        PageCell(f"{trial.seconds / 60:.3g}", trial.seconds),
        *(PageCell(short(value), value if isinstance(value, int | float) else None) for _, value in point),
        PageCell(printable(remark_of(trial))),
    ]  # fmt: skip
    is_best = result.best is not None and trial.key == result.best.key
    return PageRow(cells, {"state": trial.state} | {name: short(value) for name, value in point}, "tied" * is_best)


def _point(trial: Trial, result: Result) -> list[tuple[str, Any]]:
    return [(p.key.split(".", 1)[-1], trial.point.get(p.key)) for p in result.space.parameters]


def _number(value: float | None) -> PageCell:
    return PageCell("–") if value is None else PageCell(f"{value:.4g}", value)


def _values(rows: Sequence[PageRow], name: str) -> list[str]:
    return sorted({row.filters[name] for row in rows} - {""})


def _figures(files: Sequence[Path]) -> list[str]:
    if not files:
        return []
    shown = [elements.figure(file.read_bytes(), "png", CAPTIONS[file.stem]) for file in files]
    return ['<div class="figures">', *shown, "</div>"]


def _settings(folder: Path, result: Result, command: Sequence[str]) -> list[str]:
    lines = [
        "# go on where it stopped, or with more trials",
        redacted(shlex.join([*map(printable, command), "--resume"])),
        "# this page from the finished trials",
        redacted(shlex.join([*map(printable, command), "--results-only"])),
    ]
    if result.best:
        best = shlex.join(["polarcast", "train", printable(folder / "best.yaml")])
        lines += ["# train the best configuration", best]
    space = folder / SWEEP_FILE
    text = _lines(redacted(read_limited(space).decode(errors="replace"))) if space.is_file() else ""
    return [elements.commands(lines), *([elements.folded_text("Settings of the search", text)] if text else [])]


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))
