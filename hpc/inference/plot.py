"""Plot forecasts: radar input, forecast rain or reflectivity, and observations."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import UNITS
from polarcast.hpc.inference.cf_dataset import Forecasts
from polarcast.hpc.inference.grid import Ground
from polarcast.hpc.inference.nowcast import Nowcast
from polarcast.hpc.utils.plot_style import RAIN_LEVELS_MM_H, ZH_LEVELS_DBZ, settle_texts

COLUMNS = 4
"""Maximum number of frames in a figure, evenly spaced over the event."""
_LETTERS_PER_INCH = 12
_LEVELS = {
    "zh": ZH_LEVELS_DBZ,
    "zdr": (-1, -0.5, 0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4),
    "kdp": (-0.5, 0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4),
    "rain_rate": RAIN_LEVELS_MM_H,
}
_TICKS = {"zh": (5, 20, 35, 50, 65), "zdr": (-1, 0, 1, 2, 4), "kdp": (0, 0.5, 1, 2, 4),
          "rain_rate": (0.1, 1, 5, 20, 50, 120)}  # fmt: skip

_Field = npt.NDArray[np.floating]
_Row = tuple[str, str, Sequence[_Field]]
"""Variable, label, and one field (y, x) per column."""


def draw_forecasts(forecasts: Forecasts, title: str) -> bytes:
    """Draw a PNG with one column per selected frame and one row per field.

    Args:
        forecasts: Forecasts of an event, with their input.
        title: Title of the figure.
    """
    columns = shown(len(forecasts.frames))
    rows: list[_Row] = [(name, label, [fields[t] for t in columns]) for name, label, fields in _rows(forecasts)]
    return _png(rows, [_moment(forecasts, t) for t in columns], forecasts.ground, title)


def draw_nowcast(nowcast: Nowcast, title: str) -> bytes:
    """Draw a PNG of the last input frame and selected lead times: forecast, and observations if available.

    Args:
        nowcast: Forecast of an event; its lowest level is drawn.
        title: Title of the figure.
    """
    leads, zh = shown(nowcast.zh.shape[1]), nowcast.mean()[:, 0]
    unknown = np.full(nowcast.ground.shape, np.nan, np.float32)
    observed = [nowcast.known.get(nowcast.issued + step, unknown[None])[0] for step in (0, *(1 + t for t in leads))]
    members = len(nowcast.zh)
    rows: list[_Row] = [
        ("zh", "nowcast" if members == 1 else f"mean of {members} members", [observed[0], *(zh[t] for t in leads)])
    ]
    if members > 1:
        spread = nowcast.zh[:, :, 0].std(0, ddof=1)
        rows.append(("zh", "spread of the members", [unknown, *(spread[t] for t in leads)]))
    if len(nowcast.known) > 1:
        rows.append(("zh", "observed", observed))
    now = "last input frame" if nowcast.time is None else f"{nowcast.time.replace('T', ' ')} UTC"
    moments = [f"frame {nowcast.issued:03d}\n{now}", *(f"{nowcast.lead_minutes[t]:+.0f} min" for t in leads)]
    return _png(rows, moments, nowcast.ground, f"{title}, {nowcast.heights_km[0]:g} km")


def _png(rows: Sequence[_Row], moments: list[str], ground: Ground, title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 2.3 * len(moments) + 1.9
    figure = Figure(figsize=(width, 2.25 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(moments), squeeze=False)
    for of_row, (name, label, fields) in zip(axes, rows, strict=True):
        image = [draw_field(axis, field, name, ground) for axis, field in zip(of_row, fields, strict=True)][-1]
        of_row[0].set_ylabel(label, fontsize=9)
        bar = figure.colorbar(image, ax=of_row, label=UNITS[name], ticks=_TICKS[name], shrink=0.9, aspect=14)
        bar.ax.tick_params(labelsize=7)
    for axis, moment in zip(axes[0], moments, strict=True):
        axis.set_title(moment, fontsize=8)
    for axis in axes[:-1, :].flat:
        axis.tick_params(labelbottom=False)
    for axis in axes[:, 1:].flat:
        axis.tick_params(labelleft=False)
    figure.suptitle(textwrap.fill(f"{title}; distances in km", int(_LETTERS_PER_INCH * width)), fontsize=10)
    settle_texts(figure)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def shown(frames: int) -> list[int]:
    """Return the indices of the frames to draw, out of `frames`."""
    return np.unique(np.linspace(0, frames - 1, min(COLUMNS, frames)).round().astype(int)).tolist()


def _rows(forecasts: Forecasts) -> list[tuple[str, str, _Field]]:
    rows: list[tuple[str, str, _Field]] = []
    has_echo = (forecasts.radar != 0).any(1)
    for v, name in enumerate(forecasts.variables):
        label = f"{name.upper()}, {forecasts.height_km:g} km"
        rows.append((name, label, np.where(has_echo, forecasts.radar[:, v], np.nan)))
    members = len(forecasts.rain_rate)
    rows.append(("rain_rate", "forecast" if members == 1 else f"mean of {members} members", forecasts.mean()))
    if members > 1:
        rows.append(("rain_rate", "spread of the members", forecasts.spread()))
    if forecasts.observed is not None:
        rows.append(("rain_rate", "observed rain rate", forecasts.observed))
    return rows


def draw_field(axis: Any, field: _Field, name: str, ground: Ground) -> Any:
    """Draw a field (y, x) in the colors of its variable; missing and negligible values stay gray."""
    import matplotlib as mpl
    from matplotlib.colors import BoundaryNorm

    (north, *_, south), (west, *_, east) = ground.axes_km()
    half = ground.spacing_km / 2
    levels = _LEVELS[name]
    visible = np.ma.masked_invalid(field)
    if name in ("zh", "rain_rate"):  # values below the first level are negligible
        visible = np.ma.masked_less(visible, levels[0])
    colors = mpl.colormaps["turbo"]
    axis.set_facecolor("0.95")
    axis.tick_params(labelsize=7)
    axis.locator_params(nbins=3)
    return axis.imshow(
        visible, cmap=colors, norm=BoundaryNorm(levels, colors.N, extend="both" if name in ("zdr", "kdp") else "max"),
        interpolation="nearest", extent=(west - half, east + half, south - half, north + half),
    )  # fmt: skip


def _moment(forecasts: Forecasts, t: int) -> str:
    frame = int(forecasts.frames[t])
    if forecasts.times:
        return f"frame {frame:03d}\n{forecasts.times[frame].replace('T', ' ')} UTC"
    return f"frame {frame:03d}, {forecasts.seconds()[t] / 60:+.0f} min"
