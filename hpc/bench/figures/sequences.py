"""Sequences of observed and nowcast frames (source paper, figures 5.10, 5.11 and 6.13), and an animation."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.files import write_bytes
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.figures.source import FigureData
from polarcast.hpc.utils.plot_style import ZH_COLORS, ZH_LEVELS_DBZ, draw_field, field_style, pyplot, save

Field = npt.NDArray[Any]
Sequences = dict[str, Field]
"""Fields (t, z, y, x) in dBZ by row label, the observation first."""
_HEIGHT_KM = 3.0
_SIDE, _SHOWN, _LETTERS = 1.25, 5, 16
_MILLISECONDS, _LAST_MILLISECONDS = 350, 1400


def draw_frames(path: Path, source: FigureData) -> list[Path]:
    """Five frames of the wettest case: the observation, and each model's nowcast below it (figure 5.10)."""
    rows = _sequences(source)
    if not rows:
        return []
    protocol = source.protocol(source.shown[0])
    level = _level(protocol.height)
    count = len(protocol.lead_time)
    shown = min(_SHOWN, count)
    frames = [count * (1 + part) // shown - 1 for part in range(shown)]
    heads = [f"+{protocol.lead_time[frame]:g} min" for frame in frames]
    fields = {name: [of[frame, level] for frame in frames] for name, of in rows.items()}
    return [_draw(path, fields, heads, f"Nowcasts at {protocol.height[level]:g} km")]


def draw_heights(path: Path, source: FigureData) -> list[Path]:
    """The last frame of the wettest case at every height (figure 5.11)."""
    rows = _sequences(source)
    protocol = source.protocol(source.shown[0]) if rows else None
    if protocol is None or len(protocol.height) < 2:
        return []
    heads = [f"{height:g} km" for height in protocol.height]
    fields = {name: list(of[-1]) for name, of in rows.items()}
    return [_draw(path, fields, heads, f"Nowcasts of {protocol.lead_time[-1]:g} minutes by height")]


def animate(path: Path, source: FigureData) -> list[Path]:
    """Animation of the wettest case: the observation and each model's nowcast."""
    rows = _sequences(source)
    if not rows:
        return []
    protocol = source.protocol(source.shown[0])
    level = _level(protocol.height)
    across = min(4, len(rows))
    pictures = [
        _picture({name: of[f, level] for name, of in rows.items()}, across, f"+{lead:g} min")
        for f, lead in enumerate(protocol.lead_time)
    ]
    content = io.BytesIO()
    pauses = [_MILLISECONDS] * (len(pictures) - 1) + [_LAST_MILLISECONDS]
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=pauses, loop=0)
    path = path.with_suffix(".gif")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
    return [path]


def _sequences(source: FigureData) -> Sequences:
    """Return observation and nowcasts of the wettest case; models run on both arms are shown from dual-pol."""
    best = {kept.model: kept for kept in sorted(source.kept, key=lambda k: k.arm == "dualpol")}
    loaded: Mapping[str, Any] = {m: np.load(best[m].cases) for m in source.shown if m in best}
    if not loaded:
        return {}
    observed = {"observed": next(iter(loaded.values()))["observed"][0]}
    suffix = {m: f" ({ARM_NAMES[best[m].arm]})" if len(source.arms(m)) > 1 else "" for m in loaded}
    return observed | {f"{source.label(m)}{suffix[m]}": cases["forecast"][0] for m, cases in loaded.items()}


def _level(heights: Sequence[float]) -> int:
    return int(np.abs(np.asarray(heights) - _HEIGHT_KM).argmin())


def _draw(path: Path, rows: Mapping[str, Sequence[Field]], heads: Sequence[str], title: str) -> Path:
    figure, axes = pyplot().subplots(
        len(rows), len(heads), figsize=(_SIDE * len(heads) + 1.2, _SIDE * len(rows) + 0.8), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    style = field_style(ZH_LEVELS_DBZ, ZH_COLORS)
    for line, (name, fields) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(textwrap.fill(name, _LETTERS), fontsize=6)
        for axis, field in zip(line, fields, strict=True):
            image = draw_field(axis, field, style)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=7)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, ticks=ZH_LEVELS_DBZ[::2])
    bar.set_label("reflectivity in dBZ", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    figure.suptitle(f"{title}: wettest of the kept cases, first seed", fontsize=8)
    return save(figure, path)


def _picture(fields: Mapping[str, Field], across: int, title: str) -> Any:
    """Return one frame of the animation as an image with a small palette."""
    from PIL import Image

    down = -(-len(fields) // across)
    figure, axes = pyplot().subplots(
        down, across, figsize=(1.9 * across, 2.1 * down + 0.3), squeeze=False, layout="constrained"
    )
    style = field_style(ZH_LEVELS_DBZ, ZH_COLORS)
    for axis in axes.flat[len(fields) :]:
        axis.axis("off")
    for axis, (name, field) in zip(axes.flat, fields.items(), strict=False):
        draw_field(axis, field, style)
        axis.set_title(textwrap.fill(name, 26), fontsize=6)
    figure.suptitle(title, fontsize=9)
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    pyplot().close(figure)
    return image.convert("P", palette=Image.Palette.ADAPTIVE)
