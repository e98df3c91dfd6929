"""Scores from radar and from dual-pol by model, with intervals (source paper, figures 7.8, 8.1 and 8.2)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.figures.source import ARMS, FigureData, Numbers
from polarcast.hpc.bench.record import Record
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import coordinate_label, expand, parse_score
from polarcast.hpc.utils.plot_style import ARM_COLORS, ARM_HATCHES, ARM_LINES, ARM_MARKERS, finish, panels, pyplot, save

Draw = Callable[[Any, Sequence[tuple[int, Record]], str], None]
_ARMS_SHOWN = ("paper_mse", "paper_mre", "paper_rbias", "paper_csi")
_OFFSETS = {"radar": 0.16, "dualpol": -0.16}
_BAR = 0.38


def draw_arms(path: Path, source: FigureData) -> list[Path]:
    """The source paper's four scores by model and arm (figure 8.1)."""
    return _by_model(path, source, _ARMS_SHOWN, _dots, "Radar and dual-pol")


def draw_classes(path: Path, source: FigureData) -> list[Path]:
    """RMSE by observed class, each class on its own scale (figure 7.8 shows the MSE)."""
    score, protocol = parse_score("rmse@class=*"), source.protocol(source.shown[0])
    metrics = [*map(str, expand(score, protocol)), "rmse"]
    return _by_model(path, source, metrics, _bars, f"Error by observed {source.quantity}")


def draw_windows(path: Path, source: FigureData) -> list[Path]:
    """HK (Hanssen–Kuipers) by window of the multi-event contingency table; thin: POD, above, and F (table 8.2)."""
    first = source.shown[0]
    at = f"threshold={source.threshold(first)},window=*"
    event = coordinate_label("threshold", source.threshold(first), source.protocol(first))
    title = f"HK of events {event} by window (multi-event contingency table)"
    return draw_along(path, source, f"hk@{at}", title, thin=(f"pod@{at}", f"pofd@{at}"))


def draw_thresholds(path: Path, source: FigureData) -> list[Path]:
    """Critical success index (CSI) by threshold."""
    return draw_along(path, source, "csi@threshold=*", "CSI by threshold")


def _by_model(path: Path, source: FigureData, metrics: Sequence[str], draw: Draw, title: str) -> list[Path]:
    """Draw a panel for each score, with a row for each model and both arms in it."""
    numbers = source.numbers(metrics, source.shown)
    models = source.shown[::-1]
    across = len(metrics)
    size = (2.2 + 2.45 * across, 0.33 * len(models) + 1.3)
    figure, axes = pyplot().subplots(1, across, figsize=size, sharey=True, layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        for arm in ARMS:
            found = [(i, numbers.get((m, arm, metric))) for i, m in enumerate(models)]
            draw(axis, [(i, r) for i, r in found if r and r.value is not None], arm)
        axis.set_xlabel(parse_score(metric).heading(source.protocol(models[0])), fontsize=8)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=7)
        axis.xaxis.get_offset_text().set_fontsize(7)
    axes[0].set_yticks(range(len(models)), [source.label(m) for m in models])
    finish(figure, axes, f"{title}: {source.counted}, {source.intervals}")
    return [save(figure, path)]


def draw_along(path: Path, source: FigureData, score: str, title: str, thin: Sequence[str] = ()) -> list[Path]:
    """Draw a panel for each model: its arms and their intervals along the axis that is `*` in the score.

    The scores in `thin` are drawn as thin lines without intervals.
    """
    numbers = source.numbers([score], source.shown)
    figure, axes = panels([source.label(m) for m in source.shown])
    protocol = source.protocol(source.shown[0])
    labels: list[str] = []
    for (axis,), model in zip(axes, source.shown, strict=True):
        for arm in source.arms(model):
            found = _records_of(numbers, model, arm)
            _line(axis, arm, found)
            for other in thin:
                axis.plot(source.along(model, arm, other), ARM_LINES[arm], color=ARM_COLORS[arm], lw=0.6)
            labels = [_coordinate(r.metric, protocol) for r in found]
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=6)
        axis.grid(axis="y", alpha=0.3)
    finish(figure, axes.flat, f"{title}: {source.counted}, {source.intervals}", y=parse_score(score).metric.label)
    return [save(figure, path)]


def _records_of(numbers: Numbers, model: str, arm: str) -> list[Record]:
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


def _dots(axis: Any, found: Sequence[tuple[int, Record]], arm: str) -> None:
    axis.errorbar(
        [_value(r) for _, r in found], [i + _OFFSETS[arm] for i, _ in found], xerr=_reach(found),
        fmt=ARM_MARKERS[arm], ms=4, lw=0.9, color=ARM_COLORS[arm], label=ARM_NAMES[arm],
    )  # fmt: skip


def _bars(axis: Any, found: Sequence[tuple[int, Record]], arm: str) -> None:
    side = _BAR / 2 if arm == ARMS[0] else -_BAR / 2
    axis.barh(
        [i + side for i, _ in found], [_value(r) for _, r in found], _BAR, xerr=_reach(found), color=ARM_COLORS[arm],
        hatch=ARM_HATCHES[arm], edgecolor="white", label=ARM_NAMES[arm], error_kw={"lw": 0.8},
    )  # fmt: skip


def _reach(found: Sequence[tuple[int, Record]]) -> list[list[float]]:
    """Return the lengths of the intervals below and above their values: (2, n), also for n = 0."""
    return [[_whiskers(r)[end] for _, r in found] for end in (0, 1)]


def _value(record: Record, what: str = "value") -> float:
    value = getattr(record, what)
    return float("nan") if value is None else float(value)


def _whiskers(record: Record) -> tuple[float, float]:
    """Return the length of the interval below and above the value; (0, 0) without an interval."""
    value, low, high = (_value(record, what) for what in ("value", "low", "high"))
    return (0.0, 0.0) if low != low or high != high else (max(0.0, value - low), max(0.0, high - value))
