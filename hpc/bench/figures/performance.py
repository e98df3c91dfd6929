"""Performance diagram: POD, false alarms, CSI and frequency bias in one plane (Roebber 2009)."""

from pathlib import Path
from typing import Any

import numpy as np

from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.figures.source import ARMS, FigureData, Numbers
from polarcast.hpc.scores.categorical import COUNTS, categorical
from polarcast.hpc.scores.query import expand, parse_score
from polarcast.hpc.utils.plot_style import ARM_COLORS, ARM_LINES, ARM_MARKERS, finish, panels, save

_CSI_SHOWN = (0.1, 0.3, 0.5, 0.7, 0.9)
_BIAS_SHOWN = (0.25, 0.5, 1, 2, 4)


def draw_performance(path: Path, source: FigureData) -> list[Path]:
    """POD and FAR by threshold; curves of equal CSI (labeled), rays of frequency bias ¼, ½, 1, 2 and 4 (dotted)."""
    numbers = source.numbers(["pod@threshold=*", "far@threshold=*"], source.shown)
    figure, axes = panels([source.label(m) for m in source.shown], height=2.6)
    for (axis,), model in zip(axes, source.shown, strict=True):
        _background(axis)
        for arm in source.arms(model):
            _draw_arm(axis, source, numbers, model, arm)
        axis.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    title = f"Detection and false alarms by threshold in {source.protocol(source.shown[0]).unit}"
    finish(figure, axes.flat, f"{title}: {source.counted}, {source.intervals}", "success ratio, 1 − FAR", "POD")
    return [save(figure, path)]


def _draw_arm(axis: Any, source: FigureData, numbers: Numbers, model: str, arm: str) -> None:
    thresholds = [s.at["threshold"] for s in expand(parse_score("pod@threshold=*"), source.protocol(model))]
    pod, far = (
        np.array([_with_interval(numbers, (model, arm, f"{name}@threshold={t}")) for t in thresholds]).T
        for name in ("pod", "far")
    )
    success = 1 - far[[0, 2, 1]]
    color = ARM_COLORS[arm]
    axis.errorbar(
        success[0], pod[0], xerr=abs(success[1:] - success[0]), yerr=abs(pod[1:] - pod[0]), fmt=ARM_MARKERS[arm],
        ls=ARM_LINES[arm], ms=2.5, lw=1, elinewidth=0.5, color=color, label=ARM_NAMES[arm],
    )  # fmt: skip
    # The curves of the arms are close together: label their thresholds on opposite sides.
    where = {"xytext": (-4, -5), "ha": "right"} if arm == ARMS[0] else {"xytext": (4, 2), "ha": "left"}
    for i, threshold in enumerate(thresholds):
        if i in (0, len(thresholds) - 1) and np.isfinite([success[0, i], pod[0, i]]).all():
            axis.annotate(threshold, (success[0, i], pod[0, i]), textcoords="offset points", fontsize=6, color=color,
                          **where)  # fmt: skip


def _with_interval(numbers: Numbers, key: tuple[str, str, str]) -> list[float]:
    record = numbers[key]
    return [np.nan if v is None else float(v) for v in (record.value, record.low, record.high)]


def _background(axis: Any) -> None:
    """Draw lines of equal CSI and bias; per observed event, `pod` hits and `pod · (1/success − 1)` false alarms."""
    success, pod = np.meshgrid(np.linspace(0.005, 1, 200), np.linspace(0.005, 1, 200))
    parts = {"hits": pod, "false_alarms": pod * (1 / success - 1), "misses": 1 - pod}
    table = np.stack([parts.get(name, np.zeros_like(pod)) for name in COUNTS], -1)
    for score, levels, line in (("csi", _CSI_SHOWN, "solid"), ("bias", _BIAS_SHOWN, "dotted")):
        axis.contour(success, pod, categorical(score, table), levels, colors="0.7", linewidths=0.5, linestyles=line)
    for level in _CSI_SHOWN:  # without false alarms, CSI is POD
        axis.text(0.99, level, f"{level:g}", fontsize=5, color="0.5", ha="right", va="bottom")
