"""Style of all figures: colors, panels, axes and output files."""

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from polarcast.data.files import write_bytes
from polarcast.hpc.utils.text import printable

RAIN_LEVELS_MM_H = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 50, 80, 120)
ZH_LEVELS_DBZ = tuple(range(5, 66, 5))
ZDR_LEVELS_DB = (-1, -0.5, 0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4)
RAIN_COLORS, ZH_COLORS, ZDR_COLORS = "magma_r", "viridis_r", "cividis_r"
"""Darker with the value; readable with color-vision deficiency and in grayscale."""
ARM_COLORS = {"radar": "#D55E00", "dualpol": "#0072B2", "placebo": "#009E73"}
"""From Okabe & Ito (2008), readable with color-vision deficiency."""
ARM_MARKERS = {"radar": "s", "dualpol": "o", "placebo": "^"}
ARM_HATCHES = {"radar": "////", "dualpol": "", "placebo": "...."}
ARM_LINES = {"radar": "--", "dualpol": "-", "placebo": ":"}
_ACROSS = 5
_LETTERS_PER_INCH = 13
"""Characters per inch of a panel's heading."""


def pyplot() -> Any:
    """Return matplotlib.pyplot with a backend that needs no display."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG atomically, and close it."""
    content = io.BytesIO()
    settle_texts(figure)
    figure.savefig(content, dpi=130, format="png")
    pyplot().close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
    return path


def settle_texts(figure: Any) -> None:
    """Replace texts that end the drawing: invalid formulas are drawn as they are, bytes of file names as escapes."""
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser: Any = MathTextParser("path")
    for text in figure.findobj(Text):
        content = text.get_text()
        if any("\ud800" <= c <= "\udfff" for c in content):
            text.set_text(content := "\n".join(map(printable, content.split("\n"))))
        try:
            if is_math_text(content):
                parser.parse(content)
        except ValueError:
            text.set_parse_math(False)


def panels(titles: Sequence[str], width: float = 2.6, height: float = 2.3, rows_each: int = 1) -> tuple[Any, Any]:
    """Create a figure with a panel for each title, several in a row; or a column of panels for each title.

    Returns:
        The figure, and its axes (title, rows_each).
    """
    import numpy as np

    across = min(_ACROSS, len(titles))
    bands = math.ceil(len(titles) / across)
    figure, grid = pyplot().subplots(
        bands * rows_each, across, figsize=(width * across, height * bands * rows_each + 0.7), squeeze=False,
        layout="constrained", sharex=True, sharey=True,
    )  # fmt: skip
    axes = np.moveaxis(grid.reshape(bands, rows_each, across), 1, 2).reshape(bands * across, rows_each)
    for axis in axes[len(titles) :].flat:
        axis.axis("off")
    for title, column in zip(titles, axes, strict=False):
        column[0].set_title(textwrap.fill(title, int(_LETTERS_PER_INCH * width)), fontsize=8)
    for axis in axes.flat:
        axis.tick_params(labelsize=7, which="both")
        # Shared axes label only the bottom row, but a column may end above it.
        axis.xaxis.set_tick_params(labelbottom=True)
    return figure, axes[: len(titles)]


def finish(figure: Any, axes: Iterable[Any], title: str, x: str = "", y: str = "") -> None:
    """Add the heading, the axis labels, and one legend outside of all panels, where it hides no data."""
    named = {label: drawn for axis in axes for drawn, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.suptitle(title, fontsize=9)
    if x:
        figure.supxlabel(x, fontsize=8)
    if y:
        figure.supylabel(y, fontsize=8)
    if named:
        figure.legend(named.values(), named, loc="outside upper right", ncols=len(named), fontsize=7, frameon=False)


def plain_ticks(axis: Any, digits: Sequence[int] = (1, 2, 5)) -> None:
    """Label a logarithmic axis with plain numbers: 0.2, 0.5, 1, 2."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


MISSING_GRAY = 0.82


def field_style(levels: Sequence[float], colors: str = RAIN_COLORS) -> dict[str, Any]:
    """Return the arguments with which imshow draws values by levels."""
    import matplotlib as mpl
    from matplotlib.colors import BoundaryNorm

    chosen = mpl.colormaps[colors]
    return {"cmap": chosen, "norm": BoundaryNorm(levels, chosen.N, extend="max"), "interpolation": "nearest"}


def draw_field(axis: Any, field: Any, style: dict[str, Any]) -> Any:
    """Draw a field (y, x) without axes; values below the lowest level stay blank, and missing ones (NaN) are gray."""
    import numpy as np

    axis.set(xticks=[], yticks=[])
    shown = np.ma.masked_less(field, style["norm"].vmin) if "norm" in style else field
    if (missing := np.isnan(field)).any():
        gray = np.ma.masked_array(np.full(field.shape, MISSING_GRAY), ~missing)
        axis.imshow(gray, origin="upper", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    # Row 0 of the archive is the top of the map.
    return axis.imshow(shown, origin="upper", **style)
