"""Pictures of a suite, drawn from its records."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RAIN_LEVELS_MM_H = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 50, 80, 120)
ZH_LEVELS_DBZ = tuple(range(5, 66, 5))


def draw_cases(path: Path, runs: Sequence[tuple[str, Path]]) -> None:
    """Reflectivity, observed rain and the rain of every run, side by side for a few test frames.

    Args:
        path: PNG to write.
        runs: (label, cases.npz) of each run; all hold the same cases.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    loaded = [(label, np.load(file)) for label, file in runs]
    first = loaded[0][1]
    rows, columns = len(first["event"]), len(loaded) + 2
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.75 * columns, 1.9 * rows), squeeze=False, layout="constrained"
    )
    rain: list[tuple[str, npt.NDArray[np.float32]]] = [("observed", first["observed"])]
    rain += [(label, cases["forecast"]) for label, cases in loaded]
    zh = _draw_column(axes[:, 0], first["radar"][:, 0, 0], "ZH, 1 km", _zh_style())
    for column, (label, fields) in enumerate(rain, start=1):
        last = _draw_column(axes[:, column], fields, label, _rain_style())
    for row in range(rows):
        axes[row, 0].set_ylabel(f"event {first['event'][row]:03d}\nframe {first['frame'][row]:03d}", fontsize=8)
    figure.colorbar(zh, ax=axes[:, 0], orientation="horizontal", label="dBZ", shrink=0.9, ticks=[10, 30, 50])
    figure.colorbar(
        last,
        ax=axes[:, 1:],
        orientation="horizontal",
        label="rain rate in mm/h",
        shrink=0.6,
        ticks=RAIN_LEVELS_MM_H,
    )
    _save(figure, path)
    plt.close(figure)


def _draw_column(axes: Any, fields: npt.NDArray[np.float32], title: str, style: dict[str, Any]) -> Any:
    axes[0].set_title(title, fontsize=8)
    for axis, field in zip(axes, fields, strict=True):
        axis.set(xticks=[], yticks=[])
        # Row 0 of the archive is the top of the picture.
        image = axis.imshow(np.ma.masked_less(field, style["norm"].vmin), origin="upper", **style)
    return image


def _rain_style() -> dict[str, Any]:
    return _style("turbo", RAIN_LEVELS_MM_H)


def _zh_style() -> dict[str, Any]:
    return _style("turbo", ZH_LEVELS_DBZ)


def _style(name: str, levels: Sequence[float]) -> dict[str, Any]:
    import matplotlib as mpl
    from matplotlib.colors import BoundaryNorm

    colors = mpl.colormaps[name]
    return {"cmap": colors, "norm": BoundaryNorm(levels, colors.N, extend="max"), "interpolation": "nearest"}


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, dpi=130, format="png")
    os.replace(partial, path)
