"""Input views of the members of a bagging ensemble (source paper, figures 6.5 and 6.7)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polarcast.data.scaling import RangeScaling
from polarcast.hpc.bench.figures.source import FigureData, Kept
from polarcast.hpc.config.load import model_config
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.utils.plot_style import ZH_COLORS, pyplot, save
from polarcast.models.registry import get_model

_SIDE, _EDGE_COLORS = 1.7, "RdBu_r"
_STRONGEST = 0.995
"""Quantile of edge strength that gets the darkest color."""


def draw_views(path: Path, source: FigureData) -> list[Path]:
    """Views of each variable in the last input frame of the wettest case, at the lowest height (figures 6.5, 6.7)."""
    if not (kept := _most_views(source)):
        return []
    config = RunFolder(kept.cases.parent.parent).config()
    variables, views = config.variables(), _views_of(kept)
    radar = torch.from_numpy(np.load(kept.cases)["radar"][:1]).float()[:, None]
    scaled = RangeScaling(variables).apply(radar)
    shown = {name: view(scaled)[0, 0, :, 0].numpy() for name, view in views.items()}
    figure, axes = pyplot().subplots(
        len(variables), len(shown), figsize=(_SIDE * len(shown) + 1.6, _SIDE * len(variables) + 0.7), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, (name, fields) in zip(axes.T, shown.items(), strict=True):
        column[0].set_title(name, fontsize=8)
        for axis, field in zip(column, fields, strict=True):
            axis.set(xticks=[], yticks=[])
            image = axis.imshow(field, interpolation="nearest", **_style(name, field))
            bar = figure.colorbar(image, ax=axis, shrink=0.8)
            bar.ax.tick_params(labelsize=5)
    for axis, variable in zip(axes[:, 0], variables, strict=True):
        axis.set_ylabel(variable.upper(), fontsize=8)
    height = f"{config.data.heights_km[0]:g} km"
    figure.suptitle(f"Views of the last input frame at {height}, scaled: wettest of the kept cases", fontsize=8)
    return [save(figure, path)]


def _most_views(source: FigureData) -> Kept | None:
    """Return the kept cases of the model with the most views, from its dual-pol arm where both were run."""
    found = [kept for kept in source.kept if kept.model in source.shown and _views_of(kept)]
    return max(found, key=lambda kept: (len(_views_of(kept)), kept.arm == "dualpol"), default=None)


def _views_of(kept: Kept) -> Mapping[str, Callable[[torch.Tensor], torch.Tensor]]:
    folder = RunFolder(kept.cases.parent.parent)
    if not folder.config_file.is_file():
        return {}
    config = folder.config()
    return get_model(config.model["name"]).make.input_views(model_config(config))


def _style(view: str, field: Any) -> dict[str, Any]:
    if view != "edges":
        return {"cmap": ZH_COLORS, "vmin": 0, "vmax": 1}
    strongest = float(np.quantile(np.abs(field), _STRONGEST)) or 1.0
    return {"cmap": _EDGE_COLORS, "vmin": -strongest, "vmax": strongest}
