"""Scores of nowcasts by lead time (source paper, figures 5.6–5.9 and 6.8–6.11)."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.hpc.bench.figures.comparison import draw_along
from polarcast.hpc.bench.figures.source import FigureData
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.utils.plot_style import pyplot, save

_SCORES = ("paper_mse", "paper_mre", "paper_rbias", "paper_csi", "csi@threshold={}", "far@threshold={}",
           "fss@threshold={},window=9", "lost_variance")  # fmt: skip
_ACROSS = 4
_NAMES_ACROSS = 3
_LETTERS = 44
"""Characters per line of a model's name in the legend, which has three columns."""
_INCHES_PER_NAME = 0.17
_MARKERS = "os^vD<>Px*"


def draw_lead_times(path: Path, source: FigureData) -> list[Path]:
    """Scores by lead time, a line for each model: from dual-pol where both arms were run."""
    scores = [score.format(source.threshold(source.shown[0])) for score in _SCORES]
    lines = math.ceil(len(source.shown) / _NAMES_ACROSS)
    figure, axes = pyplot().subplots(
        len(scores) // _ACROSS, _ACROSS, figsize=(2.7 * _ACROSS, 4.6 + _INCHES_PER_NAME * lines), layout="constrained",
        sharex=True,
    )  # fmt: skip
    for axis, score in zip(axes.flat, scores, strict=True):
        _draw_models(axis, source, score)
    figure.suptitle(f"Scores by lead time: {source.counted}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("lead time in minutes", fontsize=7)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    names = [textwrap.fill(label, _LETTERS) for label in labels]
    figure.legend(handles, names, loc="outside lower center", ncols=_NAMES_ACROSS, fontsize=6.5, frameon=False)
    return [save(figure, path)]


def draw_arms_by_lead_time(path: Path, source: FigureData) -> list[Path]:
    """CSI of heavy echo by lead time, from radar and from dual-pol."""
    threshold = source.threshold(source.shown[0])
    return draw_along(path, source, f"csi@threshold={threshold},lead_time=*", f"CSI of echo ≥ {threshold} dBZ")


def _draw_models(axis: Any, source: FigureData, score: str) -> None:
    parsed = parse_score(score)
    colors = pyplot().get_cmap("tab20").colors
    for number, model in enumerate(source.shown):
        protocol, joined = source.protocol(model), "," if parsed.at else "@"
        values = source.along(model, source.arms(model)[-1], f"{score}{joined}lead_time=*")
        axis.plot(protocol.lead_time, values, color=colors[number % len(colors)], lw=1.1, label=source.label(model),
                  marker=_MARKERS[number % len(_MARKERS)], ms=3)  # fmt: skip
    axis.set_title(parsed.heading(source.protocol(source.shown[0])), fontsize=7)
    axis.tick_params(labelsize=7)
    axis.set_xticks(_spread(source.protocol(source.shown[0]).lead_time))
    axis.grid(alpha=0.3)


def _spread(lead_time: Sequence[float]) -> list[float]:
    return [float(t) for t in np.asarray(lead_time)[1::2]]
