"""Draw figures 5.1, 5.2, 7.1 and 7.2 of the source paper for any archive, and some of its frames.

A figure that needs an absent variable or rain is not drawn.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import Archive
from polarcast.data.explore.content import ArchiveContent, content_of
from polarcast.data.explore.describe import EDGES, ZH_EDGES_DBZ, Description, FrequencyMap
from polarcast.data.files import replacing

Real = npt.NDArray[np.floating]

_LABELS = {"zh": "ZH in dBZ", "zdr": "ZDR in dB", "kdp": "KDP in °/km", "rain_rate": "rain rate in mm/h"}
_SHOWN = {"zh": (0, 60), "zdr": (-1, 4), "kdp": (-0.5, 3), "rain_rate": (0.1, 100)}


def draw_frequency_maps(path: Path, maps: Mapping[tuple[str, float], FrequencyMap]) -> bool:
    """Draw figure 5.1: frequency of ZDR and KDP against ZH at each height, with mean ± standard deviation.

    Returns:
        Whether it is drawn: an archive without ZDR and KDP has no such maps.
    """
    if not maps:
        return False
    plt = pyplot()
    variables, heights = list(dict.fromkeys(v for v, _ in maps)), sorted({h for _, h in maps})
    shape, inches = (len(variables), len(heights)), (2 + 3 * len(heights), 0.5 + 3 * len(variables))
    figure, axes = plt.subplots(*shape, figsize=inches, layout="constrained", sharex=True, squeeze=False)
    centers = (ZH_EDGES_DBZ[1:] + ZH_EDGES_DBZ[:-1]) / 2
    for row, variable in enumerate(variables):
        for axis, height in zip(axes[row], heights, strict=True):
            frequencies = maps[variable, height]
            share = frequencies.counts.T / max(frequencies.counts.sum(), 1)
            image = axis.pcolormesh(
                ZH_EDGES_DBZ, EDGES[variable], np.ma.masked_equal(share, 0), norm="log",
                vmin=1e-6, vmax=max(1e-5, share.max()),
            )  # fmt: skip
            mean, spread = frequencies.moments()
            axis.errorbar(centers[::3], mean[::3], spread[::3], color="red", fmt=".-", linewidth=1, markersize=3)
            axis.set(title=f"{height:g} km", ylim=(EDGES[variable][0], EDGES[variable][-1]))
        axes[row, 0].set_ylabel(_LABELS[variable])
    for axis in axes[-1]:
        axis.set_xlabel(_LABELS["zh"])
    figure.colorbar(image, ax=axes, label="share of echoes")
    save(figure, path)
    return True


def draw_evolution(path: Path, description: Description, minutes: float) -> None:
    """Draw figure 5.2: frame means of each variable over one event, by time and height."""
    plt = pyplot()
    content = description.summary.content
    heights, count = content.heights_km, len(content.variables)
    figure, column = plt.subplots(count, 1, figsize=(9, 2 * count), layout="constrained", sharex=True, squeeze=False)
    axes = column[:, 0]
    time = np.arange(len(description.means)) * minutes
    for v, axis in enumerate(axes):
        image = axis.pcolormesh(
            time, np.arange(len(heights)), description.means[:, v].T, shading="nearest", cmap="turbo"
        )
        axis.set_yticks(range(len(heights)), [f"{h:g} km" for h in heights])
        figure.colorbar(image, ax=axis, label=_LABELS[content.variables[v]])
    axes[0].set_title(f"event {description.event:03d}: mean over echoes")
    axes[-1].set_xlabel("minutes")
    save(figure, path)


def draw_rain_scatter(path: Path, pixels: Real, content: ArchiveContent) -> bool:
    """Draw figure 7.1: ZH against ZDR at the lowest height, colored by rain rate.

    Returns:
        Whether it is drawn: it needs rain, ZDR and a height near the ground.
    """
    if not content.has_rain or "zdr" not in content.variables or content.ground is None:
        return False
    plt, ground = pyplot(), content.ground
    rainy = pixels[pixels[:, -1] >= _SHOWN["rain_rate"][0]]
    rainy = rainy[rainy[:, -1].argsort()]  # heavy rain on top
    figure, axis = plt.subplots(figsize=(7, 5.5), layout="constrained")
    zh, zdr = (rainy[:, content.column(v, ground)] for v in ("zh", "zdr"))
    dots = axis.scatter(zh, zdr, c=rainy[:, -1], s=3, cmap="turbo", norm="log")
    axis.set(xlabel=_LABELS["zh"], ylabel=_LABELS["zdr"], xlim=_SHOWN["zh"], ylim=_SHOWN["zdr"])
    axis.set_title(f"{content.heights_km[ground]:g} km")
    if not len(rainy):
        dots.set_clim(*_SHOWN["rain_rate"])
    figure.colorbar(dots, label=_LABELS["rain_rate"])
    save(figure, path)
    return True


def draw_rain_against_variables(path: Path, pixels: Real, content: ArchiveContent) -> bool:
    """Draw figure 7.2: rain rate against ZH and against ZDR near 3 and 7 km. Return whether it is: it needs rain."""
    if not content.has_rain:
        return False
    plt = pyplot()
    variables = [v for v in ("zh", "zdr") if v in content.variables]
    levels = [content.storm, *([content.ice] if content.ice not in (None, content.storm) else [])]
    rainy = pixels[pixels[:, -1] >= _SHOWN["rain_rate"][0]]
    shape, inches = (len(variables), len(levels)), (4.5 * len(levels), 3.5 * len(variables))
    figure, axes = plt.subplots(*shape, figsize=inches, layout="constrained", sharey=True, squeeze=False)
    for row, variable in enumerate(variables):
        for axis, z in zip(axes[row], levels, strict=True):
            with_echo = rainy[rainy[:, content.column("zh", z)] != 0]
            x, y = with_echo[:, content.column(variable, z)], with_echo[:, -1]
            axis.hexbin(x, y, yscale="log", bins="log", gridsize=60, mincnt=1, extent=(*_SHOWN[variable], -1, 2.3))
            axis.set(xlabel=f"{_LABELS[variable]}, {content.heights_km[z]:g} km")
        axes[row, 0].set_ylabel(_LABELS["rain_rate"])
    save(figure, path)
    return True


def draw_frames(path: Path, archive: Archive, event: int) -> None:
    """Draw four frames of one event: all variables near 3 km, ZH of ice, and rain, as far as there."""
    content, frames = content_of(archive), archive.frames[event]
    picked = [frames[round(i * (len(frames) - 1) / 3)] for i in range(4)]
    rows: dict[str, list[_Panel]] = {}
    for frame in dict.fromkeys(picked):
        panels = _radar_panels(archive.read_radar(event, frame), content)
        if archive.has_rain:
            rain = archive.read_rain(event, frame)
            panels.append(("rain_rate", "ground", rain, rain >= _SHOWN["rain_rate"][0]))
        rows[f"frame {frame:03d}"] = panels
    _draw_panels(path, rows, 2.4)


def draw_beside_frames(path: Path, frames: Mapping[str, tuple[Real, ArchiveContent]]) -> None:
    """Draw one radar frame (v, z, y, x) of each of several archives: all variables near 3 km, and ZH of ice.

    Args:
        path: PNG file.
        frames: By name of the archive: the frame, and variables and heights along v and z; with equal variables.
    """
    rows = {name: _radar_panels(radar, content) for name, (radar, content) in frames.items()}
    least = min(map(len, rows.values()))
    _draw_panels(path, {name: panels[:least] for name, panels in rows.items()}, 3.0)


_Panel = tuple[str, str, Real, npt.NDArray[np.bool_]]
"""Variable, height, field, and where it is shown."""


def _radar_panels(radar: Real, content: ArchiveContent) -> list[_Panel]:
    storm, ice = content.storm, content.ice
    label = f"{content.heights_km[storm]:g} km"
    panels = [(v, label, radar[i, storm], radar[0, storm] != 0) for i, v in enumerate(content.variables)]
    if ice is not None and ice != storm:
        panels.append(("zh", f"{content.heights_km[ice]:g} km", radar[0, ice], radar[0, ice] != 0))
    return panels


def _draw_panels(path: Path, rows: Mapping[str, list[_Panel]], inches: float) -> None:
    first = next(iter(rows.values()))
    columns = len(first)
    figure, axes = pyplot().subplots(
        len(rows), columns, figsize=(2.6 * columns, inches * len(rows)), layout="constrained", squeeze=False
    )
    for row, (name, panels) in enumerate(rows.items()):
        images = [_draw(axes[row, i], variable, field, shown) for i, (variable, _, field, shown) in enumerate(panels)]
        axes[row, 0].set_ylabel(name)
        for axis, (variable, height, *_), (_, above, *_) in zip(axes[row], panels, first, strict=True):
            if not row or height != above:
                axis.set_title(f"{variable}, {height}")
    for column, ((variable, *_), image) in enumerate(zip(panels, images, strict=True)):
        figure.colorbar(image, ax=axes[:, column], orientation="horizontal", label=_LABELS[variable])
    save(figure, path)


def _draw(axis: Any, name: str, field: Real, shown: npt.NDArray[np.bool_]) -> Any:
    axis.set(xticks=[], yticks=[])
    low, high = _SHOWN[name]
    scale = "log" if name == "rain_rate" else "linear"
    # Row 0 of the archive is the northernmost.
    masked = np.ma.masked_where(~shown, field)
    return axis.imshow(masked, origin="upper", cmap="turbo", norm=scale, clim=(low, high))


def pyplot() -> Any:
    """Return matplotlib.pyplot with a backend that needs no display."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG atomically, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
    pyplot().close(figure)
