"""Scores of both arms, and the gain from dual-pol, under perturbed input."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polarcast.data.degrade.perturbation import level_text
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.robustness.crossing import Crossing
from polarcast.hpc.bench.robustness.result import Number, RobustCurve, Robustness, RobustScore
from polarcast.hpc.utils.plot_style import ARM_COLORS, ARM_MARKERS, pyplot, save

_LINES = ("-", "--", ":", "-.")
_GAIN_COLORS = ("#000000", "#CC79A7", "#009E73", "#E69F00")
"""From Okabe & Ito (2008), other than those of the arms."""
_GAIN_MARKERS = ("o", "D", "^", "v")
_ACROSS = 4
_WIDTH, _HEIGHT = 2.5, 1.9


def draw_robustness(folder: Path, result: Robustness) -> list[Path]:
    """Draw a figure for each score: a panel for each perturbation with the score of both arms, and one with the gain.

    Returns:
        The files, `robustness_<score>.png`.
    """
    return [_draw(folder / f"robustness_{_file_name(score.score)}.png", result, score) for score in result.scores]


def _file_name(score: str) -> str:
    return re.sub(r"[^\w.-]+", "_", score)


def _draw(path: Path, result: Robustness, score: RobustScore) -> Path:
    names = list(result.labels)
    figure, columns = _panels(len(names))
    for name, (above, below) in zip(names, columns, strict=True):
        curves = [c for c in result.curves if (c.score, c.perturbation) == (score.score, name)]
        for curve in curves:
            _draw_scores(above, result, curve)
            _draw_gain(below, result, curve, score.is_ratio)
        label, unit = result.labels[name]
        above.set_title(label, fontsize=8)
        below.axhline(0, color="0.3", lw=0.8)
        _label(below, curves[0], unit)
    for above, below in columns[::_ACROSS]:
        above.set_ylabel(score.heading, fontsize=7)
        below.set_ylabel("gain in %" if score.is_ratio else "gain", fontsize=7)
    counted = f"{result.events} events in {result.groups} groups, {result.intervals}"
    figure.suptitle(f"{score.heading} under perturbed input: {counted}", fontsize=9)
    _add_legend(figure, [axis for column in columns for axis in column])
    return save(figure, path)


def _panels(count: int) -> tuple[Any, list[tuple[Any, Any]]]:
    """Create a figure; return it with the upper and the lower axis of each panel, which share their levels."""
    across = min(_ACROSS, count)
    bands = math.ceil(count / across)
    figure = pyplot().figure(figsize=(_WIDTH * across, 2 * _HEIGHT * bands + 1.1), layout="constrained")
    grid = figure.add_gridspec(2 * bands, across)
    columns = []
    for place in range(count):
        row, column = 2 * (place // across), place % across
        above = figure.add_subplot(grid[row, column])
        columns.append((above, figure.add_subplot(grid[row + 1, column], sharex=above)))
    for axis in (axis for column in columns for axis in column):
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=6.5)
    return figure, columns


def _label(axis: Any, curve: RobustCurve, unit: str) -> None:
    """Label the levels of a panel."""
    if curve.neutral is None:
        axis.set_xticks(_places(curve), [level_text(point.level) for point in curve.points])
        axis.set_xlim(-0.5, len(curve.points) - 0.5)
    axis.set_xlabel(f"in {unit}" if unit else "" if curve.neutral is None else "share", fontsize=7)


def _add_legend(figure: Any, axes: Sequence[Any]) -> None:
    named = {label: drawn for axis in axes for drawn, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named, loc="outside lower center", ncols=3, fontsize=7, frameon=False,
                  handlelength=3.5)  # fmt: skip


def _places(curve: RobustCurve) -> list[float]:
    """Return the position of each level on the axis."""
    if curve.neutral is None:
        return [float(n) for n in range(len(curve.points))]
    return [float(point.level) for point in curve.points]


def _draw_scores(axis: Any, result: Robustness, curve: RobustCurve) -> None:
    place, label = _model(result, curve)
    for arm in ("radar", "dualpol"):
        numbers = [getattr(point, arm) for point in curve.points]
        axis.plot(_places(curve), _values(numbers), ls="none" if curve.neutral is None else _LINES[place], lw=1.1,
                  color=ARM_COLORS[arm], marker=ARM_MARKERS[arm], ms=3, mfc=None if place == 0 else "white",
                  label=f"{label}, {ARM_NAMES[arm]}")  # fmt: skip


def _draw_gain(axis: Any, result: Robustness, curve: RobustCurve, is_ratio: bool) -> None:
    place, label = _model(result, curve)
    factor, at = 100 if is_ratio else 1, _places(curve)
    numbers = [point.gain for point in curve.points]
    value, low, high = ([factor * v for v in _values(numbers, end)] for end in ("value", "low", "high"))
    style = {"color": _GAIN_COLORS[place], "marker": _GAIN_MARKERS[place], "ms": 3, "label": f"gain of {label}"}
    if curve.neutral is None:
        offset = [x + 0.12 * (place - (len(result.models) - 1) / 2) for x in at]
        reach = [[v - a for v, a in zip(value, low, strict=True)], [b - v for v, b in zip(value, high, strict=True)]]
        axis.errorbar(offset, value, yerr=reach, ls="", lw=0.9, **style)
        return
    axis.plot(at, value, _LINES[place], lw=1.1, **style)
    axis.fill_between(at, low, high, color=_GAIN_COLORS[place], alpha=0.15, lw=0)
    for side in curve.gone:
        _draw_gone(axis, side, _GAIN_COLORS[place])


def _draw_gone(axis: Any, side: Crossing, color: str) -> None:
    """Mark the level at which the gain is gone, and the levels at which its interval contains 0, on the zero line."""
    if side.low is not None:
        axis.plot([side.low, side.reach if side.high is None else side.high], [0, 0], color=color, lw=3, alpha=0.4)
    if side.level is not None:
        axis.plot([side.level], [0], marker="|", ms=10, mew=1.8, color=color)


def _model(result: Robustness, curve: RobustCurve) -> tuple[int, str]:
    """Return the position of the curve's model among the styles, and its label."""
    place = [model.model for model in result.models].index(curve.model)
    return place % len(_LINES), result.models[place].label


def _values(numbers: Sequence[Number], end: str = "value") -> list[float]:
    return [float("nan") if getattr(n, end) is None else float(getattr(n, end)) for n in numbers]
