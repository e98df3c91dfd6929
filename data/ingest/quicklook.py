"""Draw an event next to its input, to check position, orientation and values after gridding."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import UNITS
from polarcast.data.files import replacing
from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.volumes.volume import Real, Sweep

_RANGES = {"zh": (0, 65), "zdr": (-1, 4), "kdp": (-0.5, 4), "rain_rate": (0, 60)}
_STRONG_DBZ = 35


@dataclass(frozen=True)
class Native:
    """Input of an event on its native geometry, drawn next to the gridded fields.

    Attributes:
        x_km, y_km: Cell corners, km east and north of the centre of the event's grid.
        zh: Values in dBZ; NaN where missing.
        title: Title of the panel.
    """

    x_km: Real
    y_km: Real
    zh: Real
    title: str

    @classmethod
    def of_sweep(cls, sweep: Sweep) -> "Native":
        """Project a sweep of a volume to the ground."""
        order = np.argsort(sweep.azimuth_deg)
        step = float(np.diff(sweep.range_m).mean())
        edges_m = np.append(sweep.range_m - step / 2, sweep.range_m[-1] + step / 2)
        azimuth = np.deg2rad(np.append(sweep.azimuth_deg[order], sweep.azimuth_deg[order][0] + 360))
        ground_km = edges_m * np.cos(np.deg2rad(sweep.elevation_deg.mean())) / 1000
        x, y = np.sin(azimuth)[:, None] * ground_km, np.cos(azimuth)[:, None] * ground_km
        title = f"as scanned, {sweep.elevation_deg.mean():.1f}°"
        return cls(x.astype(np.float32), y.astype(np.float32), sweep.fields["zh"][order], title)


def strongest_frame(event: IngestedEvent) -> int:
    """Return the frame with the most pixels of strong echo at the lowest level; ties are resolved by any echo."""
    lowest = event.radar[:, 0, 0]
    counts = (lowest >= _STRONG_DBZ).sum((1, 2)), (lowest != 0).sum((1, 2))
    return int(np.lexsort((-np.arange(len(lowest)), counts[1], counts[0]))[-1])


def draw_event(path: Path, event: IngestedEvent, native: Native | None = None, spacing_km: float = 1.0) -> None:
    """Draw the strongest frame of an event: all variables and levels, the rain, and the input.

    Args:
        path: PNG file to write.
        event: Event to draw.
        native: Input of that frame, if available.
        spacing_km: Pixel spacing of the event.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frame = strongest_frame(event)
    rows, columns = len(event.variables), len(event.heights_km) + (event.rain is not None or native is not None)
    figure = Figure(figsize=(3.6 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, variable in enumerate(event.variables):
        for column, height in enumerate(event.heights_km):
            title = f"{variable} at {height:g} km"
            _draw_grid(axes[row, column], event.radar[frame, row, column], variable, title, spacing_km, figure)
    spare = list(axes[:, len(event.heights_km) :].flat)
    if native is not None:
        _draw_native(spare.pop(0), native, event.radar.shape[-1] * spacing_km / 2)
    if event.rain is not None and spare:
        _draw_grid(spare.pop(0), event.rain[frame], "rain_rate", "rain rate", spacing_km, figure)
    for unused in spare:
        unused.set_axis_off()
    figure.suptitle(f"{event.times[frame]} UTC; north is up, scale in km", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))


def _draw_grid(axis: Any, values: Real, name: str, title: str, spacing_km: float, figure: Any) -> None:
    size = values.shape[-1]
    west, north = -(size // 2 + 0.5) * spacing_km, (size // 2 + 0.5) * spacing_km
    low, high = _RANGES[name]
    image = axis.imshow(
        np.where(values == 0, np.nan, values), cmap="turbo", vmin=low, vmax=high, interpolation="nearest",
        extent=(west, west + size * spacing_km, north - size * spacing_km, north),
    )  # fmt: skip
    axis.plot(0, 0, "k+", markersize=8)
    axis.set_title(f"{title} [{UNITS[name]}]", fontsize=9)
    figure.colorbar(image, ax=axis, shrink=0.8)


def _draw_native(axis: Any, native: Native, half_km: float) -> None:
    low, high = _RANGES["zh"]
    axis.pcolormesh(native.x_km, native.y_km, native.zh, cmap="turbo", vmin=low, vmax=high, rasterized=True)
    axis.set(xlim=(-half_km, half_km), ylim=(-half_km, half_km), aspect="equal")
    axis.plot(0, 0, "k+", markersize=8)
    axis.set_title(f"{native.title} [dBZ]", fontsize=9)
