"""Picture of the quality of training frames: scores, calibration, and the poorest and best frames."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.files import replacing
from polarcast.data.frame_quality.judge import FrameQuality
from polarcast.data.loading.local import ReadFrames
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import EVENT, FRAME, RADAR

_SHOWN = 4
_MOST_DBZ = 60.0


def draw_quality(path: Path, quality: FrameQuality, manifest: Manifest) -> None:
    """Draw the distribution of the scores, the reliability diagram, and ZH of the poorest and the best frames."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7.5), layout="constrained")
    layout: Any = [["scores"] * 2 + ["reliability"] * 2]
    layout += [[f"{kind} {place}" for place in range(_SHOWN)] for kind in ("poor", "good")]
    axes = figure.subplot_mosaic(layout)
    axes["scores"].hist(quality.score, bins=20, range=(0, 1), color="tab:blue")
    axes["scores"].set(xlabel="probability of a good frame", ylabel="training frames")
    mean, observed, _ = np.array(quality.report["assessment"]["reliability"]).T
    axes["reliability"].plot([0, 1], [0, 1], color="0.7")
    axes["reliability"].plot(mean, observed, "o-", color="tab:blue")
    axes["reliability"].set(
        xlabel="probability, cross-validated", ylabel="share of good frames", xlim=(0, 1), ylim=(0, 1)
    )
    order = np.argsort(quality.score, kind="stable")
    for kind, chosen in (("poor", order[:_SHOWN]), ("good", order[::-1][:_SHOWN])):
        for place in range(_SHOWN):
            axis = axes[f"{kind} {place}"]
            axis.set(xticks=[], yticks=[])
            if place < len(chosen):
                number = chosen[place]
                field = _lowest_zh(manifest, int(quality.event[number]), int(quality.frame[number]))
                axis.imshow(field, vmin=0, vmax=_MOST_DBZ, cmap="viridis", interpolation="nearest")
                axis.set_title(f"{quality.score[number]:.2f}: event {quality.event[number]:03d}", fontsize=8)
    figure.suptitle(f"Quality of {len(order)} training frames; below: ZH of the poorest and the best", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def _lowest_zh(manifest: Manifest, event: int, frame: int) -> npt.NDArray[np.float32]:
    """Read zh at the lowest height of one frame, (y, x) in dBZ."""
    rows = manifest.samples
    row = rows[(rows[:, 1 + EVENT] == event) & (rows[:, 1 + FRAME] == frame)][0]
    field = np.empty((1, manifest.pixels), np.float16)
    ReadFrames(manifest).copy(int(row[0]), int(row[1 + RADAR]), 0, field)
    return field.reshape(manifest.shape).astype(np.float32)
