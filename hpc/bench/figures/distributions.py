"""Scatter plots (source paper, figure 7.6), spectra, histograms, and ranks and reliability of ensembles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.figures.source import ARMS, FigureData
from polarcast.hpc.scores.query import coordinate_label
from polarcast.hpc.scores.ratios import quotient
from polarcast.hpc.utils.plot_style import ARM_COLORS, ARM_LINES, ARM_MARKERS, finish, panels, plain_ticks, pyplot, save


def draw_scatter(path: Path, source: FigureData) -> list[Path]:
    """Density of pixels by forecast and observed value, with explained variance, correlation and RMSE (figure 7.6)."""
    figure, axes = panels([source.label(m) for m in source.shown], width=2.1, height=2.1, rows_each=2)
    edges = np.array([*source.protocol(source.shown[0]).edges])
    images = []
    for column, model in zip(axes, source.shown, strict=True):
        for axis, arm in zip(column, ARMS, strict=True):
            if arm not in source.arms(model):
                axis.axis("off")
                continue
            images.append(_density(axis, source.family(model, arm, "joint")[1:-1, 1:-1, 0], edges, source.axis_scale))
            axis.text(0.04, 0.96, f"{ARM_NAMES[arm]}\n{_score_text(source, model, arm)}", va="top", fontsize=5.5,
                      transform=axis.transAxes, color=ARM_COLORS[arm],
                      bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1})  # fmt: skip
    _share_colors(images)
    bar = figure.colorbar(images[0], ax=axes.ravel().tolist(), shrink=0.5, aspect=40)
    bar.set_label("pixels of all seeds", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    title = f"Forecast against observation: {source.counted}"
    finish(figure, (), title, f"observed {source.axis_name}", f"forecast {source.axis_name}")
    return [save(figure, path)]


def _density(axis: Any, counts: Any, edges: Any, scale: str) -> Any:
    image = axis.pcolormesh(edges, edges, np.ma.masked_equal(counts, 0), cmap="viridis_r")
    for width, color in ((2, "white"), (0.8, "black")):  # visible on light and on dark bins
        axis.plot(edges[[0, -1]], edges[[0, -1]], color=color, lw=width)
    axis.set(xscale=scale, yscale=scale, aspect="equal")
    if scale == "log":
        plain_ticks(axis.xaxis, (1,))
        plain_ticks(axis.yaxis, (1,))
    return image


def _share_colors(images: Sequence[Any]) -> None:
    """Set one logarithmic color scale for all panels, up to the fullest bin."""
    from matplotlib.colors import LogNorm

    norm = LogNorm(1, max(2, *(image.get_array().max() for image in images)))
    for image in images:
        image.set_norm(norm)


def _score_text(source: FigureData, model: str, arm: str) -> str:
    ev, cc, rmse = (source.pooled(model, arm, name) for name in ("explained_variance", "cc", "rmse"))
    return f"EV {ev:.3f}\nCC {cc:.3f}\nRMSE {rmse:#.3g} {source.protocol(model).unit}"


def draw_spectra(path: Path, source: FigureData) -> list[Path]:
    """Power spectrum of the forecast divided by that of the observation; below 1 where detail is lost."""
    figure, axes = panels([source.label(m) for m in source.shown])
    for (axis,), model in zip(axes, source.shown, strict=True):
        protocol = source.protocol(model)
        waves = [float(k) for k in protocol.axis("wavenumber")][1:]
        wavelength = [min(protocol.shape) / k for k in waves]
        for arm in source.arms(model):
            power = source.along(model, arm, "power@wavenumber=*")[1:]
            axis.plot(wavelength, power, ARM_LINES[arm], color=ARM_COLORS[arm], label=ARM_NAMES[arm])
        axis.axhline(1, color="black", lw=0.7)
        axis.set(xscale="log", yscale="log")
        axis.grid(alpha=0.3)
        plain_ticks(axis.xaxis)
        plain_ticks(axis.yaxis)
    axes[0, 0].invert_xaxis()
    title = f"Spectra of {source.quantity}: {source.counted}"
    finish(figure, axes.flat, title, "wavelength in pixels", "power, forecast / observed")
    return [save(figure, path)]


def draw_histograms(path: Path, source: FigureData) -> list[Path]:
    """Histograms of forecast and observed values, with the share of the observed variance that is lost."""
    figure, axes = panels([source.label(m) for m in source.shown])
    for (axis,), model in zip(axes, source.shown, strict=True):
        edges = np.array(source.protocol(model).edges)
        for arm in source.arms(model):
            pixels = source.family(model, arm, "histogram")[0]
            # Shares, because models differ in their number of seeds.
            forecast, observed = quotient(pixels[1:], pixels.sum(0)).T
            if arm == source.arms(model)[0]:
                axis.step(edges, observed, where="post", color="black", lw=1, label="observed")
            lost = source.pooled(model, arm, "lost_variance")
            axis.step(edges, forecast, ARM_LINES[arm], where="post", color=ARM_COLORS[arm],
                      label=f"{ARM_NAMES[arm]}, lost {lost:+.0%}")  # fmt: skip
        axis.set(xscale=source.axis_scale, yscale="log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=5.5, loc="lower left")
        if source.is_rain:
            plain_ticks(axis.xaxis, (1,))
    figure.supxlabel(source.axis_name, fontsize=8)
    figure.supylabel("share of pixels", fontsize=8)
    figure.suptitle(f"Histograms of {source.quantity}, with the variance lost: {source.counted}", fontsize=9)
    return [save(figure, path)]


def draw_ensembles(path: Path, source: FigureData) -> list[Path]:
    """Ranks of the observation among the members, and reliability of the forecast probability of an event."""
    models = source.ensembles
    if not source.holds(("ranks", "probability", "spread"), models):
        return []
    figure, axes = pyplot().subplots(
        2, len(models), figsize=(max(4.5, 3.2 * len(models)), 5.4), squeeze=False, layout="constrained"
    )
    for (ranks, reliability), model in zip(axes.T, models, strict=True):
        event = coordinate_label("threshold", source.threshold(model), source.protocol(model))
        ranks.set_title(source.label(model), fontsize=8)
        ranks.set(xlabel="rank of the observation among the members", ylabel="share of pixels")
        ranks.axhline(1 / (source.protocol(model).members + 1), color="black", lw=0.7)
        reliability.set(xlabel=f"forecast probability of {source.quantity} {event}", ylabel="observed frequency")
        reliability.plot([0, 1], [0, 1], color="black", lw=0.7)
        for arm in source.arms(model):
            _draw_ranks(ranks, source, model, arm)
            _draw_reliability(reliability, source, model, arm)
        ranks.set_ylim(bottom=0)
        ranks.legend(fontsize=6)
        for axis in (ranks, reliability):
            axis.tick_params(labelsize=7)
            axis.xaxis.label.set_fontsize(8)
            axis.yaxis.label.set_fontsize(8)
    figure.suptitle(f"Ranks and reliability: {source.counted_of(models)}", fontsize=9)
    return [save(figure, path)]


def _draw_ranks(axis: Any, source: FigureData, model: str, arm: str) -> None:
    counts = source.family(model, arm, "ranks")[:, 0]
    skill = source.pooled(model, arm, "spread_skill")
    axis.plot(np.arange(len(counts)), counts / counts.sum(), ARM_LINES[arm], color=ARM_COLORS[arm],
              marker=ARM_MARKERS[arm], ms=3, label=f"{ARM_NAMES[arm]}, spread/skill {skill:.2f}")  # fmt: skip


def _draw_reliability(axis: Any, source: FigureData, model: str, arm: str) -> None:
    protocol = source.protocol(model)
    at = [float(t) for t in protocol.axis("threshold")].index(float(source.threshold(model)))
    pixels, events = np.moveaxis(source.family(model, arm, "probability")[at], -1, 0)
    axis.plot([float(p) for p in protocol.axis("probability")], quotient(events, pixels), ARM_LINES[arm],
              marker=ARM_MARKERS[arm], ms=3, color=ARM_COLORS[arm])  # fmt: skip
