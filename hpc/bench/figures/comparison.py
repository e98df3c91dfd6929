"""Radar beside dual-pol, model by model, with 95% intervals (source paper, figures 7.8, 8.1 and 8.2)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polarcast.hpc.bench.figures.source import ARMS, Numbers, Source
from polarcast.hpc.bench.figures.style import (
    ARM_COLORS,
    ARM_HATCHES,
    ARM_LINES,
    ARM_MARKERS,
    panels,
    pyplot,
    save,
)
from polarcast.hpc.bench.table import ARM_NAMES, Record
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.score import coordinate_label, parse_score

_ARMS_SHOWN = ("paper_mse", "paper_mre", "paper_rbias", "paper_csi")
_OFFSETS = {"radar": 0.16, "dualpol": -0.16}


def draw_arms(path: Path, source: Source) -> list[Path]:
    """The paper's four scores of each model's two arms (figure 8.1)."""
    numbers = source.numbers(_ARMS_SHOWN, source.shown)
    models = source.shown[::-1]
    figure, axes = pyplot().subplots(
        1, len(_ARMS_SHOWN), figsize=(3 * len(_ARMS_SHOWN), 0.33 * len(models) + 1.3), sharey=True, layout="constrained"
    )
    for axis, metric in zip(axes, _ARMS_SHOWN, strict=True):
        for arm in ARMS:
            found = [(i, numbers.get((m, arm, metric))) for i, m in enumerate(models)]
            _dots(axis, [(i + _OFFSETS[arm], r) for i, r in found if r and r.value is not None], arm)
        axis.set_xlabel(parse_score(metric).heading(source.protocol(models[0])), fontsize=8)
        axis.grid(axis="x", alpha=0.3)
        axis.tick_params(labelsize=7)
        axis.xaxis.get_offset_text().set_fontsize(7)
    axes[0].set_yticks(range(len(models)), [source.label(m) for m in models])
    axes[-1].legend(fontsize=7)
    figure.suptitle(f"Radar and dual-pol: {source.counted}, 95% intervals", fontsize=9)
    return [save(figure, path)]


def draw_classes(path: Path, source: Source) -> list[Path]:
    """RMSE by class of observed rain (figure 7.8 shows its square)."""

    def draw(axis: Any, arm: str, found: Sequence[Record]) -> None:
        low, high = zip(*map(_whiskers, found), strict=True)
        axis.bar(
            [i - 2 * _OFFSETS[arm] * 0.6 for i in range(len(found))], [_value(r) for r in found], 0.38,
            yerr=[low, high], color=ARM_COLORS[arm], hatch=ARM_HATCHES[arm], edgecolor="white", label=ARM_NAMES[arm],
            error_kw={"lw": 0.8},
        )  # fmt: skip
        axis.set_yscale("log")

    return _along(path, source, "rmse@class=*", draw, "RMSE by observed rain rate")


def draw_windows(path: Path, source: Source) -> list[Path]:
    """Hanssen–Kuipers score of events, the forecast made fuzzy within windows (figure 8.2)."""
    return _along(path, source, "hk@threshold=10,window=*", _line, "HK of 10 mm/h, by window")


def draw_thresholds(path: Path, source: Source) -> list[Path]:
    """Critical success index by threshold."""
    return _along(path, source, "csi@threshold=*", _line, "CSI by threshold")


def _along(
    path: Path, source: Source, score: str, draw: Callable[[Any, str, Sequence[Record]], None], title: str
) -> list[Path]:
    """A panel for each model, along the axis on which a score asks for `*`."""
    numbers = source.numbers([score], source.shown)
    figure, axes = panels([source.label(m) for m in source.shown])
    protocol = source.protocol(source.shown[0])
    labels: list[str] = []
    for (axis,), model in zip(axes, source.shown, strict=True):
        for arm in source.arms(model):
            found = _of(numbers, model, arm)
            draw(axis, arm, found)
            labels = [_coordinate(r.metric, protocol) for r in found]
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=6)
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].legend(fontsize=7)
    axes[0, 0].set_ylabel(parse_score(score).metric.label, fontsize=8)
    figure.suptitle(f"{title}: {source.counted}, 95% intervals", fontsize=9)
    return [save(figure, path)]


def _of(numbers: Numbers, model: str, arm: str) -> list[Record]:
    return [record for (m, a, _), record in numbers.items() if (m, a) == (model, arm)]


def _coordinate(metric: str, protocol: Protocol) -> str:
    axis, value = list(parse_score(metric).at.items())[-1]
    return coordinate_label(axis, value, protocol).removeprefix("observed ").removeprefix("within ")


def _line(axis: Any, arm: str, found: Sequence[Record]) -> None:
    at = range(len(found))
    axis.plot(at, [_value(r) for r in found], ARM_LINES[arm], marker=ARM_MARKERS[arm], ms=3, color=ARM_COLORS[arm],
              label=ARM_NAMES[arm])  # fmt: skip
    low, high = ([_value(r, end) for r in found] for end in ("low", "high"))
    axis.fill_between(at, low, high, color=ARM_COLORS[arm], alpha=0.2, lw=0)


def _dots(axis: Any, found: Sequence[tuple[float, Record]], arm: str) -> None:
    low, high = zip(*(_whiskers(r) for _, r in found), strict=True)
    axis.errorbar(
        [_value(r) for _, r in found], [y for y, _ in found], xerr=[low, high], fmt=ARM_MARKERS[arm], ms=4, lw=0.9,
        color=ARM_COLORS[arm], label=ARM_NAMES[arm],
    )  # fmt: skip


def _value(record: Record, what: str = "value") -> float:
    value = getattr(record, what)
    return float("nan") if value is None else float(value)


def _whiskers(record: Record) -> tuple[float, float]:
    """How far the interval reaches below and above; not at all where there is none."""
    value, low, high = (_value(record, what) for what in ("value", "low", "high"))
    return (0.0, 0.0) if low != low or high != high else (max(0.0, value - low), max(0.0, high - value))
