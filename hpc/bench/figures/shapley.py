"""Shapley values of an explained run: of pixels (source paper, figure 8.3) and of scores."""

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import UNITS
from polarcast.hpc.evaluation.shapley.result import ExplainedScore, Explanation, PlayerValue
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.wording import MINUS, number
from polarcast.hpc.utils.plot_style import pyplot, save

Floats = npt.NDArray[np.floating[Any]]
ALONG = {"lead_time": "lead time in minutes", "class": "observed", "change": "where echo"}
"""Axes of scores that are drawn along the abscissa, with its label."""
_LABELS = {"lead_time": r"(\S+) min", "class": r"observed (.+? (?:mm/h|dBZ))", "change": r"where echo (\S+)"}
"""Coordinates in the headings of scores."""
_BETTER, _WORSE, _NEITHER = "#0072B2", "#D55E00", "#999999"
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""From Okabe & Ito (2008), readable with color-vision deficiency; markers and lines tell more players apart."""
_MARKERS, _LINES = "os^vD<>Px*h8", ("-", "--", ":")
_HATCHES = ("", "////", "....")
_LOW_TO_HIGH = ("#0072B2", "#b9b2bd", "#D55E00")
"""Colors of low, middle and high feature values, all visible on white."""
_MISSING = "#dddddd"
_MOST_DOTS, _BINS, _SPREAD = 1500, 100, 0.4
_LINEAR_WIDTH = {"mm/h": 1.0}
"""Range in which values of rain, most of which are near 0, are shown on a linear scale; a logarithmic one follows."""
_ROW_INCHES, _PANEL_INCHES, _ACROSS = 0.42, 2.7, 4
_LETTERS, _LETTERS_PER_INCH, _INCHES_PER_NAME = 36, 13, 1.35
"""Characters per line of a panel's heading, of the figure's heading per inch, and the width of a name in a legend."""


def caption_of(file: Path) -> str:
    """Return the caption of a figure in a report, by the name of its file."""
    axis = file.stem.removeprefix("shapley_")
    draws = {"pixels": draw_beeswarm, "scores": draw_bars, "beside": draw_beside}
    return str(draws.get(axis, draw_along).__doc__).partition("\n")[0]


def draw_explanation(folder: Path, explanation: Explanation) -> list[Path]:
    """Draw attributions of pixels, values of scores, and values by lead time, class and echo change.

    Returns:
        The files written; figures without data are left out.
    """
    drawn: list[Path] = []
    if explanation.pixels.values.size:
        drawn += draw_beeswarm(folder / "shapley_pixels.png", explanation)
    if plain := [score for score in explanation.scores if _axis(score) is None]:
        drawn += draw_bars(folder / "shapley_scores.png", explanation, plain)
    for axis in ALONG:
        if chosen := [score for score in explanation.scores if _axis(score) == axis]:
            drawn += draw_along(folder / f"shapley_{axis}.png", explanation, axis, chosen)
    return drawn


def draw_beeswarm(path: Path, explanation: Explanation) -> list[Path]:
    """Shapley values of the forecast at single pixels, colored by the value of the input (figure 8.3)."""
    pixels = explanation.pixels
    order = np.argsort(np.abs(pixels.values).mean(1))
    figure, axis = pyplot().subplots(figsize=(7.4, 1.5 + _ROW_INCHES * len(order)), layout="constrained")
    axis.axvline(0, color="black", lw=0.7, zorder=0)
    for row, player in enumerate(order):
        _swarm(axis, row, pixels.values[player], pixels.features[player], _LINEAR_WIDTH.get(pixels.unit))
    names = [_with_range(explanation.players[player], pixels.features[player]) for player in order]
    axis.set_yticks(range(len(order)), names, fontsize=7)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    if pixels.unit in _LINEAR_WIDTH:
        reach = max(1.0, float(np.abs(pixels.values).max()))
        axis.set_xscale("asinh", linear_width=_LINEAR_WIDTH[pixels.unit])
        axis.set_xticks(sorted({sign * size for size in (0, 1, 10, 100) for sign in (1, -1) if size <= reach}))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", MINUS))
    axis.set_xlabel(f"Shapley value of the forecast at a pixel [{pixels.unit}]", fontsize=8)
    _color_bar(figure, axis)
    count = f"{pixels.values.shape[1]:,} pixels with echo, {_counted(explanation)}"
    figure.suptitle(f"Contribution of each input to the forecast: {count}", fontsize=9)
    return [save(figure, path)]


def draw_bars(path: Path, explanation: Explanation, scores: Sequence[ExplainedScore]) -> list[Path]:
    """Shapley values of scores with their 95% intervals: how much each input improves or worsens them."""
    order = _order(explanation.players, scores)
    figure, axes = _panels([score.heading for score in scores], 0.95 + 0.21 * len(order))
    for axis, score in zip(axes, scores, strict=True):
        _bars(axis, score, order)
        axis.set_yticks(range(len(order)), map(_label, order), fontsize=7)
        axis.set_xlabel(_ends(score), fontsize=7)
    _finish(figure, explanation, scores, _patches(scores))
    return [save(figure, path)]


def draw_along(path: Path, explanation: Explanation, axis: str, scores: Sequence[ExplainedScore]) -> list[Path]:
    """Shapley values of scores along lead time, class or echo change, a line with its 95% band for each player."""
    by_name: dict[str, list[ExplainedScore]] = {}
    for score in scores:
        by_name.setdefault(_without(score, axis), []).append(score)
    order = _order(explanation.players, scores)[::-1]
    figure, panels = _panels([_heading(some[0], axis) for some in by_name.values()], 2.2)
    for panel, some in zip(panels, by_name.values(), strict=True):
        labels = [_coordinate(score, axis) for score in some]
        for position, player in enumerate(order):
            _line(panel, position, player, [_of(score, player) for score in some])
        panel.axhline(0, color="black", lw=0.7, zorder=0)
        panel.set_xticks(range(len(labels)), labels, rotation=45 * (len(labels) > 4), fontsize=6.5)
        panel.set_xlabel(ALONG[axis], fontsize=7)
        panel.grid(alpha=0.3)
    figure.supylabel("Shapley value, higher is better", fontsize=7)
    _finish(figure, explanation, scores, panels[0].get_legend_handles_labels()[0])
    return [save(figure, path)]


def draw_beside(path: Path, explanations: Sequence[Explanation]) -> list[Path]:
    """Shapley values of the same players by retraining and by imputation, with their intervals."""
    first = explanations[0]
    known = [{of.score for of in explanation.scores} for explanation in explanations]
    scores = [score for score in first.scores if all(score.score in names for names in known)]
    if not scores:
        return []
    order = _order(first.players, scores)
    figure, axes = _panels([score.heading for score in scores], 0.95 + 0.15 * len(order) * len(explanations))
    width = 0.8 / len(explanations)
    for axis, score in zip(axes, scores, strict=True):
        for position, explanation in enumerate(explanations):
            values, low, high = _numbers([_of(explanation[score.score], player) for player in order])
            axis.barh(np.arange(len(order)) + 0.4 - width * (position + 0.5), values, width, color=_CYCLE[position],
                      hatch=_HATCHES[position % len(_HATCHES)], xerr=np.clip([values - low, high - values], 0, None),
                      edgecolor="white", label=explanation.imputation, error_kw={"lw": 0.9, "capsize": 2})  # fmt: skip
        axis.axvline(0, color="black", lw=0.7)
        axis.set_yticks(range(len(order)), map(_label, order), fontsize=7)
        axis.set_xlabel("Shapley value, higher is better", fontsize=7)
        axis.grid(axis="x", alpha=0.3)
    _finish(figure, first, scores, axes[0].get_legend_handles_labels()[0])
    return [save(figure, path)]


def _swarm(axis: Any, row: int, values: Floats, features: Floats, linear_width: float | None) -> None:
    """Draw the dots of a player, wider where they are dense; missing features are gray and below the others."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("low to high", _LOW_TO_HIGH)
    thinned = np.linspace(0, len(values) - 1, min(len(values), _MOST_DOTS)).astype(int)
    values, ranks = values[thinned], _ranks(features[thinned])
    heights = row + _jitter(np.arcsinh(values / linear_width) if linear_width else values)
    known = np.isfinite(ranks)
    style = {"s": 5, "lw": 0, "rasterized": True}
    axis.scatter(values[~known], heights[~known], color=_MISSING, zorder=2, **style)
    axis.scatter(values[known], heights[known], c=ranks[known], cmap=colors, vmin=0, vmax=1, zorder=3, **style)


def _ranks(features: Floats) -> Floats:
    """Return the mean rank of each value among the known ones, from 0 (lowest) to 1 (highest); NaN stays NaN."""
    from scipy.stats import rankdata

    ranks = np.full(len(features), np.nan)
    known = np.isfinite(features)
    if known.sum() > 1:
        ranks[known] = (rankdata(features[known]) - 1) / (known.sum() - 1)
    elif known.any():
        ranks[known] = 0.5
    return ranks


def _jitter(values: Floats) -> Floats:
    """Return the height of each dot within its row, in rows: dots of one bin are stacked around the middle."""
    low, high = values.min(), values.max()
    bins = np.round((values - low) / (high - low) * _BINS).astype(int) if high > low else np.zeros(len(values), int)
    order = np.argsort(bins, kind="stable")
    counts = np.bincount(bins)
    position = np.empty(len(values), int)
    position[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    stacked = (position + 1) // 2 * np.where(position % 2, 1, -1)
    return _SPREAD * stacked / max(1, counts.max() // 2)


def _with_range(player: str, features: Floats) -> str:
    """Return a player's name with the range of 90% of its values in physical units."""
    known = features[np.isfinite(features)]
    if not len(known):
        return _label(player)
    low, high = np.quantile(known, (0.05, 0.95))
    return f"{_label(player)}\n{number(low)} … {number(high)} {UNITS.get(player.split(' ')[0], '')}".rstrip()


def _color_bar(figure: Any, axis: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap

    shown = ScalarMappable(cmap=LinearSegmentedColormap.from_list("low to high", _LOW_TO_HIGH))
    bar = figure.colorbar(shown, ax=axis, ticks=[0, 1], aspect=40, pad=0.02)
    bar.ax.set_yticklabels(["low", "high"], fontsize=7)
    bar.set_label("value of the input, by its rank", fontsize=7)


def _bars(axis: Any, score: ExplainedScore, order: Sequence[str]) -> None:
    values, low, high = _numbers([_of(score, player) for player in order])
    colors = [_color(score, value) for value in values]
    reach = np.clip([values - low, high - values], 0, None)
    drawn = axis.barh(range(len(order)), values, 0.65, color=colors, xerr=reach, edgecolor="white",
                      error_kw={"lw": 0.9, "capsize": 2})  # fmt: skip
    for bar, color in zip(drawn, colors, strict=True):
        bar.set_hatch("////" if color == _WORSE else "")
    axis.axvline(0, color="black", lw=0.7)
    axis.margins(x=0.12)
    axis.grid(axis="x", alpha=0.3)


def _line(axis: Any, position: int, player: str, found: Sequence[PlayerValue]) -> None:
    color = _CYCLE[position % len(_CYCLE)]
    line = _LINES[position // len(_CYCLE) % len(_LINES)]
    values, low, high = _numbers(found)
    axis.plot(range(len(found)), values, line, color=color, marker=_MARKERS[position % len(_MARKERS)], ms=3, lw=1.1,
              label=_label(player))  # fmt: skip
    axis.fill_between(range(len(found)), low, high, color=color, alpha=0.15, lw=0)


def _patches(scores: Sequence[ExplainedScore]) -> list[Any]:
    """Return the legend of the bars' colors."""
    from matplotlib.patches import Patch

    colors = {_color(score, value) for score in scores for value in _numbers(score.values)[0]}
    names = {_BETTER: "improves the score", _WORSE: "worsens the score", _NEITHER: "best value in between"}
    return [
        Patch(facecolor=color, hatch="////" if color == _WORSE else "", edgecolor="white", label=name)
        for color, name in names.items()
        if color in colors
    ]


def _finish(figure: Any, explanation: Explanation, scores: Sequence[ExplainedScore], legend: Sequence[Any]) -> None:
    """Add the heading and a legend below all panels, both as wide as the figure."""
    title = f"Contribution of each input to the scores: {_counted(explanation)}, {_intervals(explanation, scores)}"
    width = figure.get_size_inches()[0]
    figure.suptitle(textwrap.fill(title, int(_LETTERS_PER_INCH * width)), fontsize=9)
    across = max(1, min(len(legend), int(width / _INCHES_PER_NAME)))
    figure.legend(handles=legend, loc="outside lower center", ncols=across, fontsize=7, frameon=False)


def _panels(titles: Sequence[str], height: float) -> tuple[Any, list[Any]]:
    """Create a figure with a panel for each title, each with scales of its own."""
    across = min(_ACROSS, len(titles))
    rows = math.ceil(len(titles) / across)
    size = (max(5.5, 0.6 + _PANEL_INCHES * across), 0.8 + (height + 0.3) * rows)
    figure, grid = pyplot().subplots(rows, across, figsize=size, squeeze=False, layout="constrained")
    for axis in grid.flat[len(titles) :]:
        axis.axis("off")
    for title, axis in zip(titles, grid.flat, strict=False):
        axis.set_title(textwrap.fill(title, _LETTERS), fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_axisbelow(True)
    return figure, list(grid.flat[: len(titles)])


def _label(player: str) -> str:
    """Return the name of a player with its variable in capitals: `ZH 1 km`."""
    first, *rest = player.split(" ")
    return " ".join([first.upper() if first in UNITS else first, *rest])


def _order(players: Sequence[str], scores: Sequence[ExplainedScore]) -> list[str]:
    """Return the players by their mean share of the scores' |values|, the largest last."""
    shares = np.zeros(len(players))
    for score in scores:
        sizes = np.abs(_numbers([_of(score, player) for player in players])[0])
        if np.isfinite(sizes).all() and sizes.any():
            shares += sizes / sizes.sum()
    return [players[i] for i in np.argsort(shares, kind="stable")]


def _of(score: ExplainedScore, player: str) -> PlayerValue:
    return next(of for of in score.values if of.player == player)


def _color(score: ExplainedScore, value: float) -> str:
    """Return the color of a value: higher is better, but for scores whose best value is inside their range."""
    metric = METRICS.get(score.score.partition("@")[0])
    if metric and metric.direction == "target":
        return _NEITHER
    return _BETTER if value >= 0 else _WORSE


def _numbers(found: Sequence[PlayerValue]) -> Floats:
    """Return values and limits, (3, n); NaN where there are none."""
    return np.array([[getattr(of, name) for of in found] for name in ("value", "low", "high")], dtype=float)


def _intervals(explanation: Explanation, scores: Sequence[ExplainedScore]) -> str:
    """Return the kind of the intervals shown: those of a single run leave out the variation between runs."""
    has = [of.low is not None for score in scores for of in score.values]
    if not any(has):
        return "too few groups of events for intervals"
    return "events' intervals" if explanation.lacks_seeds else "95% intervals"


def _ends(score: ExplainedScore) -> str:
    """Return the score without and with all inputs, whose difference the values add up to."""
    empty, full = ("undefined" if end is None else number(end) for end in (score.empty, score.full))
    return f"{empty} without, {full} with all"


def _heading(score: ExplainedScore, without: str) -> str:
    """Return the heading of a score without its coordinate of an axis."""
    return " ".join(re.sub(_LABELS[without], "", score.heading).split())


def _axis(score: ExplainedScore) -> str | None:
    at = _coordinates(score)
    return next((axis for axis in ALONG if axis in at), None)


def _coordinates(score: ExplainedScore) -> dict[str, str]:
    pairs = (part.partition("=") for part in score.score.partition("@")[2].split(",") if part)
    return {axis: value for axis, _, value in pairs}


def _coordinate(score: ExplainedScore, axis: str) -> str:
    """Return the label of a coordinate, from the heading of the score."""
    found = re.search(_LABELS[axis], score.heading)
    return found[1] if found else _coordinates(score)[axis]


def _without(score: ExplainedScore, axis: str) -> str:
    rest = [f"{name}={value}" for name, value in _coordinates(score).items() if name != axis]
    return "@".join([score.score.partition("@")[0], ",".join(rest)])


def _counted(explanation: Explanation) -> str:
    windows = f"{explanation.windows:,} windows of " if explanation.windows else ""
    return f"{windows}{explanation.events} events, {explanation.seeds} seed{'s' * (explanation.seeds != 1)}"
