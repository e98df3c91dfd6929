"""Maps: a few cases beside truth (source paper, figure 7.7), and how noise becomes rain (figure 7.3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.hpc.bench.figures.source import ARMS, Source
from polarcast.hpc.bench.figures.style import (
    RAIN_LEVELS_MM_H,
    ZH_LEVELS_DBZ,
    draw_field,
    field_style,
    pyplot,
    save,
)
from polarcast.hpc.bench.table import ARM_NAMES

Case = Mapping[str, npt.NDArray[Any]]


def draw_cases(path: Path, source: Source) -> list[Path]:
    """Two rows for each case: ZH and the rain of each model's radar arm; what was observed and that of dual-pol."""
    loaded = {(kept.model, kept.arm): np.load(kept.cases) for kept in source.kept}
    models = [m for m in source.shown if any(key[0] == m for key in loaded)]
    if not models:
        return []
    first = next(iter(loaded.values()))
    count = len(first["event"])
    figure, axes = pyplot().subplots(
        2 * count, 1 + len(models), figsize=(1.45 * (1 + len(models)) + 0.6, 2.9 * count + 1), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    rain, zh = field_style(RAIN_LEVELS_MM_H), field_style(ZH_LEVELS_DBZ)
    for case in range(count):
        upper, lower = axes[2 * case], axes[2 * case + 1]
        of_zh = draw_field(upper[0], first["radar"][case, 0, 0], zh)
        of_rain = draw_field(lower[0], first["observed"][case], rain)
        upper[0].set_ylabel(f"event {first['event'][case]:03d}\nframe {first['frame'][case]:03d}", fontsize=7)
        upper[0].set_title("ZH, 1 km", fontsize=7)
        lower[0].set_title("observed", fontsize=7, fontweight="bold")
        for row, arm in ((upper, "radar"), (lower, "dualpol")):
            _draw_row(row[1:], [(source.label(m), loaded.get((m, arm))) for m in models], case, arm, rain)
    figure.colorbar(of_zh, ax=axes[:, :1], orientation="horizontal", label="dBZ", shrink=0.9, ticks=[10, 30, 50])
    figure.colorbar(of_rain, ax=axes[:, 1:], orientation="horizontal", label="rain rate in mm/h", shrink=0.5,
                    ticks=RAIN_LEVELS_MM_H, aspect=50)  # fmt: skip
    return [save(figure, path)]


def _draw_row(axes: Any, runs: Sequence[tuple[str, Case | None]], case: int, arm: str, style: dict[str, Any]) -> None:
    for axis, (label, cases) in zip(axes, runs, strict=True):
        if cases is None:
            axis.axis("off")
            continue
        draw_field(axis, cases["forecast"][case], style)
        axis.set_title(f"{label}\n{ARM_NAMES[arm]}" if arm == "radar" else ARM_NAMES[arm], fontsize=6.5)


def draw_process(path: Path, source: Source) -> list[Path]:
    """What the network sees on the way from noise to rain, of the wettest case, for each model that samples."""
    found = [(kept, np.load(kept.cases)) for kept in source.kept if kept.arm == ARMS[-1]]
    rows = [(source.label(kept.model), cases) for kept, cases in found if "process" in cases]
    if not rows:
        return []
    most = max(len(cases["process"]) for _, cases in rows)
    figure, axes = pyplot().subplots(
        len(rows), most + 2, figsize=(1.15 * (most + 2), 1.35 * len(rows) + 0.4), squeeze=False, layout="constrained"
    )
    rain = field_style(RAIN_LEVELS_MM_H)
    for line, (label, cases) in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis("off")
        for step, (axis, state) in enumerate(zip(line, cases["process"], strict=False), start=1):
            draw_field(axis, state, {"cmap": "gray", "vmin": -2, "vmax": 4, "interpolation": "nearest"})
            axis.set_title(f"evaluation {step}", fontsize=6)
        for axis, name in ((line[-2], "forecast"), (line[-1], "observed")):
            draw_field(axis, cases[name][0], rain)
            axis.set_title(name, fontsize=6, fontweight="bold")
        line[0].axis("on")
        line[0].set_ylabel(label.replace(" (", "\n("), fontsize=6)
    figure.suptitle("From noise to rain: standardised fields (grey), and rain rate", fontsize=8)
    return [save(figure, path)]
