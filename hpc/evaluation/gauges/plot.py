"""Draw gauges on a map of the radar's rain, and estimates against gauges."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.hpc.evaluation.gauges.pairs import MODES, PIXEL, Pairs
from polarcast.hpc.evaluation.gauges.report import GaugeReport, GaugeResult
from polarcast.hpc.evaluation.gauges.show import shown
from polarcast.hpc.scores.wording import number
from polarcast.hpc.utils.plot_style import pyplot, save

MOST_PANELS = 5
_SAME_LINE = 0.1
"""Logarithm of the bias below which its line is that of equality, and has no name of its own."""
_RATIOS = (0.25, 0.35, 0.5, 0.71, 0.9, 1.11, 1.41, 2.0, 2.83, 4.0)
_POINT, _BIAS = "#0072B2", "#D55E00"
"""From Okabe & Ito (2008), readable with color-vision deficiency."""
_TITLE, _LABEL, _TICK = 11, 10, 9


def draw(report: GaugeReport, path: Path) -> Path:
    """Draw a map with the gauges, coloured by estimate over gauge, and a scatter plot of each estimator.

    Of several lengths of interval, the one with most pairs is drawn, and of many estimators the first ones.

    Args:
        report: Report.
        path: PNG file to write.
    """
    result = max(report.results, key=lambda one: len(one.pairs))
    names = list(result.scores)[:MOST_PANELS]
    panels = 1 + len(names)
    across = min(3, panels)
    down = -(-panels // across)
    figure, axes = pyplot().subplots(
        down, across, figsize=(4.5 * across + 1.6, 4.1 * down + 0.4), squeeze=False, layout="constrained",
        width_ratios=[1.32, *[1.0] * (across - 1)],
    )  # fmt: skip
    flat = list(axes.flat)
    _map(figure, flat[0], report, result.pairs, names[0])
    for axis, name in zip(flat[1:], names, strict=False):
        _scatter(axis, result, name)
    for axis in flat[panels:]:
        axis.axis("off")
    pairs = result.pairs
    title = (
        f"{report.archive.root.resolve().name}: {len(pairs)} intervals of {pairs.minutes:g} min at "
        f"{len(np.unique(pairs.station))} gauges"
    )
    figure.suptitle(textwrap.fill(title, 48 * across), fontsize=_TITLE + 1)
    return save(figure, path)


def _map(figure: Any, axis: Any, report: GaugeReport, pairs: Pairs, name: str) -> None:
    from matplotlib.colors import BoundaryNorm

    place, total = report.map.place, report.map.total_mm
    rows, columns = place.shape
    y0, x0, km = rows // 2, columns // 2, place.spacing_km
    edges = ((-0.5 - x0) * km, (columns - 0.5 - x0) * km, (y0 - rows + 0.5) * km, (y0 + 0.5) * km)
    if total is not None:
        image = axis.imshow(np.ma.masked_equal(total, 0), cmap="Greys", extent=edges, origin="upper", alpha=0.75)
        _bar(figure.colorbar(image, cax=axis.inset_axes((1.27, 0.05, 0.04, 0.9))), "total of the frames, mm")
    ratio, latitude, longitude = _ratios(pairs, name)
    row, column = place.pixels_of(latitude, longitude)
    colors = pyplot().get_cmap("RdBu")
    points = axis.scatter(
        (column - x0) * km, (y0 - row) * km, c=np.clip(ratio, _RATIOS[0], _RATIOS[-1]), s=70, cmap=colors,
        norm=BoundaryNorm(_RATIOS, colors.N, extend="both"), edgecolors="black", linewidths=0.8, zorder=3,
    )  # fmt: skip
    bar = figure.colorbar(points, cax=axis.inset_axes((1.03, 0.05, 0.04, 0.9)), ticks=(0.25, 0.5, 0.9, 1.11, 2.0, 4.0))
    bar.ax.set_yticklabels(["1/4", "1/2", "0.9", "1.1", "2", "4"])
    _bar(bar, f"{name} / gauge, totals")
    if place.site is not None:
        axis.plot(0, 0, marker="+", color="black", markersize=9)
    axis.set(xlim=edges[:2], ylim=edges[2:], aspect="equal")
    axis.set_title("gauges on the map", fontsize=_TITLE)
    axis.set_xlabel("km east of the centre pixel", fontsize=_LABEL)
    axis.set_ylabel("km north", fontsize=_LABEL)
    axis.tick_params(labelsize=_TICK)


def _bar(bar: Any, label: str) -> None:
    bar.set_label(label, fontsize=_LABEL)
    bar.ax.tick_params(labelsize=_TICK)


def _ratios(pairs: Pairs, name: str) -> tuple[Any, Any, Any]:
    """Return estimate over gauge of each station's total, and its place; stations without rain are left out."""
    said = pairs.estimates[name][:, MODES.index(PIXEL)].mean(0)
    number_of = len(pairs.stations)
    gauge, estimate = (np.bincount(pairs.station, values, number_of) for values in (pairs.gauge, said))
    wet = gauge > 0
    return estimate[wet] / gauge[wet], pairs.places[wet, 0], pairs.places[wet, 1]


def _scatter(axis: Any, result: GaugeResult, name: str) -> None:
    pairs = result.pairs
    said = pairs.estimates[name][:, MODES.index(PIXEL)].mean(0)
    most = 1.08 * max(float(pairs.gauge.max()), float(said.max()), 0.1)
    axis.plot([0, most], [0, most], color="black", linewidth=1)
    scores = result.scores[name][PIXEL]
    bias = scores["bias"].interval.value
    axis.plot([0, most], [0, bias * most], color=_BIAS, linestyle="--", linewidth=1.5)
    axis.scatter(pairs.gauge, said, s=16, alpha=0.4, color=_POINT, linewidths=0)
    _name_line(axis, most, 1.0, "1 : 1", "black")
    if np.isfinite(bias) and abs(np.log(max(bias, 1e-9))) > _SAME_LINE:
        _name_line(axis, most, bias, "bias", _BIAS)
    lines = [
        f"bias {shown(scores['bias'].interval)}".replace("\\[", "["),
        f"RMSE {number(scores['rmse'].interval.value)} mm, CC {number(scores['cc'].interval.value)}",
    ]
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axis.text(0.03, 0.97, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=_LABEL, bbox=box)
    axis.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    axis.set_title(name, fontsize=_TITLE)
    axis.set_xlabel(f"gauge, mm in {pairs.minutes:g} min", fontsize=_LABEL)
    axis.set_ylabel(f"{name} at the pixel, mm in {pairs.minutes:g} min", fontsize=_LABEL)
    axis.tick_params(labelsize=_TICK)


def _name_line(axis: Any, most: float, slope: float, name: str, color: str) -> None:
    """Write the name of a line through the origin along it, where it leaves the panel."""
    along = 0.97 * most / max(slope, 1.0)
    axis.text(along, slope * along, name, color=color, fontsize=_TICK, ha="right", va="bottom", rotation_mode="anchor",
              rotation=float(np.rad2deg(np.arctan(slope))))  # fmt: skip
