"""Training windows that are dropped: those with the poorest frames, or as many at random."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from polarcast.data.frame_quality.judge import judge_frames
from polarcast.data.loading.permute import keys_of, uniform
from polarcast.data.loading.windows import Windows
from polarcast.data.shards.manifest import Manifest

Keep = Callable[[Windows], npt.NDArray[np.bool_]]
_DRAW = 0x64726F70


def keep_by_quality(manifest: Manifest, share: float) -> Keep:
    """Return the function that keeps windows but those of the poorest frames.

    A window is as poor as the poorest of its input frames. The choice depends on the shards alone.

    Args:
        manifest: Manifest of the shards, with all training events.
        share: Share of the windows to drop.

    Raises:
        BadInput: see `judge_frames`.
    """

    def keep(windows: Windows) -> npt.NDArray[np.bool_]:
        quality = judge_frames(manifest)
        return kept(windows, windows.lowest_input(quality.of), share, seed=0)

    return keep


def keep_at_random(seed: int, share: float) -> Keep:
    """Return the function that keeps windows but a random share; the draw depends on the seed, event and frame."""
    return lambda windows: kept(windows, np.zeros(len(windows)), share, seed)


def kept(windows: Windows, score: npt.NDArray[np.float64], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which windows are kept, (n,): all but the `share` with the lowest scores, and at least one.

    Equal scores are ordered at random, by seed, event and first frame.
    """
    event, frame = windows.begins(np.arange(len(windows))).T
    order = np.lexsort((uniform(keys_of(seed, event, frame, _DRAW)), score))
    keep = np.ones(len(windows), bool)
    keep[order[: min(round(share * len(windows)), len(windows) - 1)]] = False
    return keep
