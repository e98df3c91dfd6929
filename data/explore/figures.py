"""Draw figures 5.1, 5.2, 7.1 and 7.2 of the source paper for any archive, and some of its frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import HEIGHTS_KM, VARIABLES, Archive
from polarcast.data.explore.describe import EDGES, ZH_EDGES_DBZ, Description, FrequencyMap
from polarcast.data.files import replacing

Real = npt.NDArray[np.floating]

_LABELS = {"zh": "ZH in dBZ", "zdr": "ZDR in dB", "kdp": "KDP in °/km", "rain_rate": "rain rate in mm/h"}
_SHOWN = {"zh": (0, 60), "zdr": (-1, 4), "kdp": (-0.5, 3), "rain_rate": (0.1, 100)}


def draw_frequency_maps(path: Path, maps: Mapping[tuple[str, float], FrequencyMap]) -> None:
    """Draw figure 5.1: frequency of ZDR and KDP against ZH at each height, with mean ± standard deviation."""
    plt = _pyplot()
    figure, axes = plt.subplots(len(EDGES), len(HEIGHTS_KM), figsize=(11, 6.5), layout="constrained", sharex=True)
    centers = (ZH_EDGES_DBZ[1:] + ZH_EDGES_DBZ[:-1]) / 2
    for row, variable in enumerate(EDGES):
        for axis, height in zip(axes[row], HEIGHTS_KM, strict=True):
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
    _save(figure, path)


def draw_evolution(path: Path, description: Description, minutes: float) -> None:
    """Draw figure 5.2: frame means of ZH, ZDR and KDP over one event, by time and height."""
    plt = _pyplot()
    figure, axes = plt.subplots(len(VARIABLES), 1, figsize=(9, 6), layout="constrained", sharex=True)
    time = np.arange(len(description.means)) * minutes
    for v, axis in enumerate(axes):
        image = axis.pcolormesh(
            time, np.arange(len(HEIGHTS_KM)), description.means[:, v].T, shading="nearest", cmap="turbo"
        )
        axis.set_yticks(range(len(HEIGHTS_KM)), [f"{h:g} km" for h in HEIGHTS_KM])
        figure.colorbar(image, ax=axis, label=_LABELS[VARIABLES[v]])
    axes[0].set_title(f"event {description.event:03d}: mean over echoes")
    axes[-1].set_xlabel("minutes")
    _save(figure, path)


def draw_rain_scatter(path: Path, pixels: Real) -> None:
    """Draw figure 7.1: ZH against ZDR at 1 km, colored by rain rate."""
    plt = _pyplot()
    rainy = pixels[pixels[:, -1] >= _SHOWN["rain_rate"][0]]
    rainy = rainy[rainy[:, -1].argsort()]  # heavy rain on top
    figure, axis = plt.subplots(figsize=(7, 5.5), layout="constrained")
    zh, zdr = (rainy[:, _column(v, 0)] for v in ("zh", "zdr"))
    dots = axis.scatter(zh, zdr, c=rainy[:, -1], s=3, cmap="turbo", norm="log")
    axis.set(xlabel=_LABELS["zh"], ylabel=_LABELS["zdr"], xlim=_SHOWN["zh"], ylim=_SHOWN["zdr"], title="1 km")
    if not len(rainy):
        dots.set_clim(*_SHOWN["rain_rate"])
    figure.colorbar(dots, label=_LABELS["rain_rate"])
    _save(figure, path)


def draw_rain_against_variables(path: Path, pixels: Real) -> None:
    """Draw figure 7.2: rain rate against ZH and against ZDR at 3 and 7 km."""
    plt = _pyplot()
    rainy = pixels[pixels[:, -1] >= _SHOWN["rain_rate"][0]]
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained", sharey=True)
    for row, variable in enumerate(("zh", "zdr")):
        for axis, z in zip(axes[row], (1, 2), strict=True):
            with_echo = rainy[rainy[:, _column("zh", z)] != 0]
            x, y = with_echo[:, _column(variable, z)], with_echo[:, -1]
            axis.hexbin(x, y, yscale="log", bins="log", gridsize=60, mincnt=1, extent=(*_SHOWN[variable], -1, 2.3))
            axis.set(xlabel=f"{_LABELS[variable]}, {HEIGHTS_KM[z]:g} km")
        axes[row, 0].set_ylabel(_LABELS["rain_rate"])
    _save(figure, path)


def draw_frames(path: Path, archive: Archive, event: int) -> None:
    """Draw four frames of one event: ZH, ZDR and KDP at 3 km, ZH at 7 km, and rain."""
    plt = _pyplot()
    frames = archive.frames[event]
    picked = [frames[round(i * (len(frames) - 1) / 3)] for i in range(4)]
    figure, axes = plt.subplots(len(picked), 5, figsize=(12, 2.4 * len(picked)), layout="constrained")
    for row, frame in enumerate(picked):
        radar, rain = archive.read_radar(event, frame), archive.read_rain(event, frame)
        fields = [*((v, radar[i, 1], radar[0, 1] != 0) for i, v in enumerate(VARIABLES))]
        fields += [("zh", radar[0, 2], radar[0, 2] != 0), ("rain_rate", rain, rain >= _SHOWN["rain_rate"][0])]
        images = [_draw(axes[row, i], *field) for i, field in enumerate(fields)]
        axes[row, 0].set_ylabel(f"frame {frame:03d}")
    for column, (name, image) in enumerate(zip((*VARIABLES, "zh", "rain_rate"), images, strict=True)):
        height = "3 km" if column < 3 else "7 km" if column == 3 else "ground"
        axes[0, column].set_title(f"{name}, {height}")
        figure.colorbar(image, ax=axes[:, column], orientation="horizontal", label=_LABELS[name])
    _save(figure, path)


def draw_beside(path: Path, frames: Mapping[str, Real]) -> None:
    """Draw one radar frame (v, z, y, x) of each of several archives: ZH, ZDR and KDP at 3 km, ZH at 7 km."""
    plt = _pyplot()
    figure, axes = plt.subplots(len(frames), 4, figsize=(11, 3 * len(frames)), layout="constrained", squeeze=False)
    for row, (name, radar) in enumerate(frames.items()):
        fields = [(v, radar[i, 1], radar[0, 1] != 0) for i, v in enumerate(VARIABLES)]
        fields.append(("zh", radar[0, 2], radar[0, 2] != 0))
        images = [_draw(axes[row, i], *field) for i, field in enumerate(fields)]
        axes[row, 0].set_ylabel(name)
    for column, (name, image) in enumerate(zip((*VARIABLES, "zh"), images, strict=True)):
        axes[0, column].set_title(f"{name}, {'3 km' if column < 3 else '7 km'}")
        figure.colorbar(image, ax=axes[:, column], orientation="horizontal", label=_LABELS[name])
    _save(figure, path)


def _draw(axis: Any, name: str, field: Real, shown: npt.NDArray[np.bool_]) -> Any:
    axis.set(xticks=[], yticks=[])
    low, high = _SHOWN[name]
    scale = "log" if name == "rain_rate" else "linear"
    # Row 0 of the archive is the northernmost.
    masked = np.ma.masked_where(~shown, field)
    return axis.imshow(masked, origin="upper", cmap="turbo", norm=scale, clim=(low, high))


def _column(variable: str, z: int) -> int:
    return VARIABLES.index(variable) * len(HEIGHTS_KM) + z


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
    _pyplot().close(figure)
