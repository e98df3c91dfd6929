"""Power of a comparison by the number of groups of events and of seeds."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.hpc.bench.power.answers import PowerOfScore, PowerSettings, by_comparison
from polarcast.hpc.scores.stats.power import FEWEST, power_at
from polarcast.hpc.utils.plot_style import plain_ticks, pyplot, save

_POINTS, _WIDEST = 40, 100_000
_LINES = ("-", "--", "-.", ":")
_LINES_SHOWN = 6
_PANEL = (2.7, 2.1)


def draw_powers(folder: Path, found: Sequence[PowerOfScore], settings: PowerSettings) -> list[Path]:
    """Draw the power by groups of events and seeds, a file for each comparison; return the files."""
    files = []
    for number, rows in enumerate(by_comparison(found).values()):
        shown = [row for row in rows if row.gains]
        name = f"power-{number + 1}" + f"-{rows[0].model}" * bool(rows[0].model)
        files += [draw_power(folder / f"{name}.png", shown, settings)] if shown else []
    return files


def draw_power(path: Path, rows: Sequence[PowerOfScore], settings: PowerSettings) -> Path:
    """Power by the number of groups of events, a line for each number of seeds, a panel for each score and gain."""
    across = max(len(row.gains) for row in rows)
    size = (_PANEL[0] * across, _PANEL[1] * len(rows) + 0.9)
    figure, axes = pyplot().subplots(
        len(rows), across, figsize=size, squeeze=False, sharey=True, layout="constrained"
    )  # fmt: skip
    for row, line in zip(rows, axes, strict=True):
        groups = np.geomspace(FEWEST, _most(row), _POINTS)
        for number, axis in enumerate(line):
            if number < len(row.gains):
                _draw_panel(axis, row, number, groups, settings)
            else:
                axis.axis("off")
    first = rows[0]
    unit = "events" if first.events_per_group == 1 else f"groups of {first.events_per_group:.3g} events"
    part = " (events' part only)" if first.lacks_seeds else ""
    figure.suptitle(f"Power{part}: {first.label}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel(f"number of {unit}; dotted: as scored", fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("probability of a shown gain", fontsize=7)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7, frameon=False)
    return save(figure, path)


def _draw_panel(axis: Any, row: PowerOfScore, number: int, groups: Any, settings: PowerSettings) -> None:
    gain, spread = row.gains[number], row.spread
    assert spread is not None, "a score without a spread has no gains"
    colors = pyplot().get_cmap("viridis")
    chosen = list(gain.groups)[:_LINES_SHOWN]
    for place, seeds in enumerate(chosen):
        found = power_at(spread, gain.effect, groups[:, None], max(seeds, 1), level=settings.level)
        color = colors(0.85 * place / max(len(chosen) - 1, 1))
        label = f"{seeds} seeds" if seeds else "one seed" if row.lacks_seeds else "no seeds"
        axis.plot(groups, found, _LINES[place % len(_LINES)], color=color, lw=1.3, label=label)
    axis.axhline(settings.power, color="0.5", lw=0.8)
    axis.axvline(row.groups, color="0.5", lw=0.8, ls=":")
    axis.set(xscale="log", ylim=(0, 1.02), xlim=(groups[0], groups[-1]))
    plain_ticks(axis.xaxis, (1,) if groups[-1] > 2000 else (1, 3))
    axis.set_title(f"{row.heading} {gain.text}", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)


def _most(row: PowerOfScore) -> float:
    """Return the largest number of groups to show: beyond what is needed, where that is possible."""
    needed = [need.groups for gain in row.gains for need in gain.groups.values() if math.isfinite(need.groups)]
    return float(np.clip(2 * max([row.groups, *needed]), 20 * FEWEST, _WIDEST))
