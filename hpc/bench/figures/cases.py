"""Maps of cases with observed and estimated rain (source paper, figure 7.7), and of sampling steps (figure 7.3)."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.figures.source import ARMS, FigureData
from polarcast.hpc.utils.plot_style import (
    RAIN_LEVELS_MM_H,
    ZDR_COLORS,
    ZDR_LEVELS_DB,
    ZH_COLORS,
    ZH_LEVELS_DBZ,
    draw_field,
    field_style,
    pyplot,
    save,
)

Case = Mapping[str, npt.NDArray[Any]]
Cases = dict[tuple[str, str], Case]
"""Kept cases of each run, by (model, arm)."""
_SIDE = 1.3
"""Side of a map in inches."""
_LETTERS = 18


def draw_cases(path: Path, source: FigureData) -> list[Path]:
    """Cases: ZH and ZDR, observed rain, and each model's rain from radar and from dual-pol (figure 7.7)."""
    loaded: Cases = {(kept.model, kept.arm): np.load(kept.cases) for kept in source.kept}
    models = [m for m in source.shown if any(key[0] == m for key in loaded)]
    if not models:
        return []
    # Only dual-pol runs keep ZDR.
    richest = max(loaded.values(), key=lambda cases: cases["radar"].shape[1])
    count, rows = len(richest["event"]), len(models) + 2
    figure = pyplot().figure(figsize=(_SIDE * 2.12 * count + 0.3, _SIDE * rows + 1.1), layout="constrained")
    grid = figure.add_gridspec(
        rows + 1, 3 * count - 1, width_ratios=([1, 1, 0.1] * count)[:-1], height_ratios=[*[1] * rows, 0.5]
    )
    drawn: dict[str, Any] = {}
    for case in range(count):
        drawn = _draw_observed(figure, grid, richest, case)
        for row, model in enumerate(models, start=2):
            maps = [loaded.get((model, arm)) for arm in ARMS]
            axes = [figure.add_subplot(grid[row, 3 * case + side]) for side in range(len(ARMS))]
            _draw_arms(axes, maps, case, source.label(model) if case == 0 else "", is_first=row == 2)
    _draw_scales(figure, grid[-1, :], drawn)
    figure.suptitle(f"Cases from the first seed: {source.counted}", fontsize=9)
    return [save(figure, path)]


def _draw_observed(figure: Any, grid: Any, cases: Case, case: int) -> dict[str, Any]:
    """Draw the radar fields and, below them, the observed rain on top of the two columns of a case."""
    left = 3 * case
    zh, zdr = figure.add_subplot(grid[0, left]), figure.add_subplot(grid[0, left + 1])
    observed = figure.add_subplot(grid[1, left : left + 2])
    radar = cases["radar"][case, :, 0]
    drawn = {"ZH in dBZ": draw_field(zh, radar[0], field_style(ZH_LEVELS_DBZ, ZH_COLORS))}
    zh.set_title(f"event {cases['event'][case]:03d}, frame {cases['frame'][case]:03d}\nZH", fontsize=7)
    if len(radar) > 1:
        masked = np.ma.masked_where(radar[0] == 0, radar[1])
        drawn["ZDR in dB"] = draw_field(zdr, masked, field_style(ZDR_LEVELS_DB, ZDR_COLORS))
        zdr.set_title("ZDR", fontsize=7)
    else:
        zdr.axis("off")
    drawn["rain rate in mm/h"] = draw_field(observed, cases["observed"][case], field_style(RAIN_LEVELS_MM_H))
    is_whole = np.isfinite(cases["observed"][case]).all()
    observed.set_title(f"observed rain{'' if is_whole else ' (gray: unknown)'}", fontsize=7, fontweight="bold")
    return drawn


def _draw_arms(axes: Sequence[Any], maps: Sequence[Case | None], case: int, label: str, is_first: bool) -> None:
    style = field_style(RAIN_LEVELS_MM_H)
    for axis, cases, arm in zip(axes, maps, ARMS, strict=True):
        if is_first:
            axis.set_title(ARM_NAMES[arm], fontsize=7)
        if cases is not None:
            draw_field(axis, cases["forecast"][case], style)
        else:  # not run on this arm; the axis stays because it carries the label of its row
            axis.set(xticks=[], yticks=[], frame_on=False, box_aspect=1)
    axes[0].set_ylabel(textwrap.fill(label, _LETTERS), fontsize=7)


def _draw_scales(figure: Any, place: Any, drawn: Mapping[str, Any]) -> None:
    for box, (label, image) in zip(place.subgridspec(1, len(drawn), wspace=0.2), drawn.items(), strict=False):
        holder = figure.add_subplot(box)
        holder.axis("off")
        bar = figure.colorbar(image, cax=holder.inset_axes([0, 0.6, 1, 0.2]), orientation="horizontal")
        bar.set_label(label, fontsize=7)
        bar.set_ticks(bar.norm.boundaries[::2])
        bar.ax.tick_params(labelsize=6)


def draw_process(path: Path, source: FigureData) -> list[Path]:
    """Inputs of the network from noise to rain, for the wettest case and each model that samples (figure 7.3)."""
    found = [(kept, np.load(kept.cases)) for kept in source.kept if kept.arm == ARMS[-1]]
    rows = [(source.label(kept.model), cases, _states(cases)) for kept, cases in found if "process" in cases]
    if not rows:
        return []
    most = max(len(states) for *_, states in rows)
    figure, axes = pyplot().subplots(
        len(rows), most + 2, figsize=(1.15 * (most + 2), 1.35 * len(rows) + 0.4), squeeze=False, layout="constrained"
    )
    for line, (label, cases, states) in zip(axes, rows, strict=True):
        drawn = _draw_row(line, cases, states)
        line[0].set_ylabel(textwrap.fill(label, _LETTERS), fontsize=6)
    bar = figure.colorbar(drawn, ax=axes[:, -1], label="rain rate in mm/h", ticks=RAIN_LEVELS_MM_H)
    bar.ax.tick_params(labelsize=6)
    bar.set_label("rain rate in mm/h", fontsize=7)
    event, frame = (int(rows[0][1][name][0]) for name in ("event", "frame"))
    title = f"From noise (gray, standardized) to rain: event {event:03d}, frame {frame:03d}, dual-pol, first seed"
    figure.suptitle(title, fontsize=8)
    return [save(figure, path)]


def _states(cases: Case) -> list[npt.NDArray[Any]]:
    """Drop repeated states: guidance evaluates each state twice, with and without the condition."""
    states = list(cases["process"])
    return [states[0], *(now for before, now in pairwise(states) if not np.array_equal(before, now))]


def _draw_row(line: Sequence[Any], cases: Case, states: Sequence[npt.NDArray[Any]]) -> Any:
    for axis in line[1:]:
        axis.axis("off")
    for step, (axis, state) in enumerate(zip(line, states, strict=False), start=1):
        draw_field(axis, state, {"cmap": "gray", "vmin": -2, "vmax": 4, "interpolation": "nearest"})
        axis.set_title(f"state {step}", fontsize=6)
    for axis, name in ((line[-2], "forecast"), (line[-1], "observed")):
        drawn = draw_field(axis, cases[name][0], field_style(RAIN_LEVELS_MM_H))
        axis.set_title(name, fontsize=6, fontweight="bold")
    return drawn
