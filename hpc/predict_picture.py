"""A look at a forecast: the radar fields it was made of, the rain it says, and the rain that was observed."""

import io
import textwrap
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import UNITS
from polarcast.hpc.bench.figures.style import RAIN_LEVELS_MM_H, ZH_LEVELS_DBZ
from polarcast.hpc.predict_dataset import Forecasts

COLUMNS = 4
"""Frames shown, evenly over the event."""
_LETTERS_PER_INCH = 12
_LEVELS = {
    "zh": ZH_LEVELS_DBZ,
    "zdr": (-1, -0.5, 0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4),
    "kdp": (-0.5, 0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4),
    "rain_rate": RAIN_LEVELS_MM_H,
}
_TICKS = {"zh": (5, 20, 35, 50, 65), "zdr": (-1, 0, 1, 2, 4), "kdp": (0, 0.5, 1, 2, 4),
          "rain_rate": (0.1, 1, 5, 20, 50, 120)}  # fmt: skip

_Row = tuple[str, str, npt.NDArray[np.floating]]


def draw_forecasts(forecasts: Forecasts, title: str) -> bytes:
    """A PNG: a column for each of a few frames, a row for each field.

    Args:
        forecasts: What was forecast, and what from.
        title: Above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = _rows(forecasts), shown(len(forecasts.frames))
    width = 2.3 * len(columns) + 1.9
    figure = Figure(figsize=(width, 2.25 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, (name, label, fields) in enumerate(rows):
        image = [_draw(axes[row, i], fields[t], name, forecasts) for i, t in enumerate(columns)][-1]
        axes[row, 0].set_ylabel(label, fontsize=9)
        bar = figure.colorbar(image, ax=axes[row, :], label=UNITS[name], ticks=_TICKS[name], shrink=0.9, aspect=14)
        bar.ax.tick_params(labelsize=7)
    for axis, t in zip(axes[0], columns, strict=True):
        axis.set_title(_moment(forecasts, t), fontsize=8)
    for axis in axes[:-1, :].flat:
        axis.tick_params(labelbottom=False)
    for axis in axes[:, 1:].flat:
        axis.tick_params(labelleft=False)
    figure.suptitle(textwrap.fill(f"{title}; distances in km", int(_LETTERS_PER_INCH * width)), fontsize=10)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def shown(frames: int) -> list[int]:
    """Places of the frames that are drawn, out of so many."""
    return np.unique(np.linspace(0, frames - 1, min(COLUMNS, frames)).round().astype(int)).tolist()


def _rows(forecasts: Forecasts) -> list[_Row]:
    rows: list[_Row] = []
    has_echo = (forecasts.radar != 0).any(1)
    for v, name in enumerate(forecasts.variables):
        label = f"{name.upper()}, {forecasts.height_km:g} km"
        rows.append((name, label, np.where(has_echo, forecasts.radar[:, v], np.nan)))
    members = len(forecasts.rain_rate)
    rows.append(("rain_rate", "forecast" if members == 1 else f"mean of {members} members", forecasts.mean()))
    if members > 1:
        rows.append(("rain_rate", "spread of the members", forecasts.spread()))
    if forecasts.observed is not None:
        rows.append(("rain_rate", "the input's rain grid", forecasts.observed))
    return rows


def _draw(axis: Any, field: npt.NDArray[np.floating], name: str, forecasts: Forecasts) -> Any:
    import matplotlib as mpl
    from matplotlib.colors import BoundaryNorm

    (north, *_, south), (west, *_, east) = forecasts.axes_km()
    half = forecasts.spacing_km / 2
    levels = _LEVELS[name]
    seen = np.ma.masked_invalid(field)
    if name in ("zh", "rain_rate"):  # less than the least level is none to speak of
        seen = np.ma.masked_less(seen, levels[0])
    colors = mpl.colormaps["turbo"]
    axis.set_facecolor("0.95")
    axis.tick_params(labelsize=7)
    axis.locator_params(nbins=3)
    return axis.imshow(
        seen, cmap=colors, norm=BoundaryNorm(levels, colors.N, extend="both" if name in ("zdr", "kdp") else "max"),
        interpolation="nearest", extent=(west - half, east + half, south - half, north + half),
    )  # fmt: skip


def _moment(forecasts: Forecasts, t: int) -> str:
    frame = int(forecasts.frames[t])
    if forecasts.times:
        return f"frame {frame:03d}\n{forecasts.times[frame].replace('T', ' ')} UTC"
    return f"frame {frame:03d}, {forecasts.seconds()[t] / 60:+.0f} min"
