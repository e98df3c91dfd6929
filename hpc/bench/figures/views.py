"""What the members of a bagging ensemble are shown of the same fields (source paper, figures 6.5 and 6.7)."""

from pathlib import Path
from typing import Any

import numpy as np

from polarcast.hpc.bench.figures.source import Kept, Source
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.utils.plot_style import ZH_COLORS, pyplot, save

_SIDE, _EDGE_COLORS = 1.7, "RdBu_r"
_STRONGEST = 0.995
"""Quantile of edges that has the darkest colour."""


def draw_views(path: Path, source: Source) -> list[Path]:
    """Each view of each variable in the last frame seen of the wettest case, at the lowest height."""
    if not (kept := _bagging(source)):
        return []
    import torch

    from polarcast.data.scaling import RangeScaling
    from polarcast.models.nowcast.views import VIEWS

    config = RunFolder(kept.cases.parent.parent).config()
    variables, names = config.variables(), list(dict.fromkeys(config.model["views"]))
    radar = torch.from_numpy(np.load(kept.cases)["radar"][:1]).float()[:, None]
    scaled = RangeScaling(variables).apply(radar)
    shown = {name: VIEWS[name](scaled)[0, 0, :, 0].numpy() for name in names}
    figure, axes = pyplot().subplots(
        len(variables), len(names), figsize=(_SIDE * len(names) + 1.6, _SIDE * len(variables) + 0.7), squeeze=False,
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
    figure.suptitle(f"Views of the last frame seen at {height}, scaled: the wettest of the kept cases", fontsize=8)
    return [save(figure, path)]


def _bagging(source: Source) -> Kept | None:
    """The kept cases of the ensemble with the most views, from dual-pol where both arms were run."""

    def views(kept: Kept) -> list[str]:
        folder = RunFolder(kept.cases.parent.parent)
        model = folder.config().model if folder.config_file.is_file() else {}
        return model.get("views", []) if model.get("name") == "bagging" else []

    found = [kept for kept in source.kept if kept.model in source.shown and views(kept)]
    return max(found, key=lambda kept: (len(set(views(kept))), kept.arm == "dualpol"), default=None)


def _style(view: str, field: Any) -> dict[str, Any]:
    if view != "edges":
        return {"cmap": ZH_COLORS, "vmin": 0, "vmax": 1}
    strongest = float(np.quantile(np.abs(field), _STRONGEST)) or 1.0
    return {"cmap": _EDGE_COLORS, "vmin": -strongest, "vmax": strongest}
