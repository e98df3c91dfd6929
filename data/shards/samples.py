"""The table of frames in a manifest: a row each, stored as runs, for whole events lie at regular distances in a tar."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

COLUMNS = ("event", "frame", "radar_offset", "rain_offset", "strong_pixels", "intensity_ppm")
"""Offsets are bytes from the start of the tar to the first value of the frame's array, −1 where there is no rain grid;
strong pixels are those of `selection.strong_pixels`; intensity is `selection.intensity_ppm`."""
RUN = ("event", "frame", "frames", "radar_offset", "rain_offset", "stride")
EVENT, FRAME, RADAR, RAIN, STRONG, INTENSITY = range(len(COLUMNS))

Table = npt.NDArray[np.int64]


def as_table(rows: Sequence[Sequence[int]]) -> Table:
    """Rows of `COLUMNS` as an array, (n, 6)."""
    return np.array(rows, dtype=np.int64).reshape(-1, len(COLUMNS))


def to_runs(table: Table) -> list[list[int]]:
    """Runs of `RUN`: frames of one event that follow each other, each `stride` bytes after the one before."""
    runs: list[list[int]] = []
    for event, frame, radar, rain, *_ in table.tolist():
        if runs and _joins(runs[-1], event, frame, radar, rain):
            last = runs[-1]
            last[2], last[5] = last[2] + 1, (radar - last[3]) // last[2]
        else:
            runs.append([event, frame, 1, radar, rain, 0])
    return runs


def from_runs(runs: npt.NDArray[np.int64], strong: npt.ArrayLike, intensity: npt.ArrayLike) -> Table:
    """The inverse of `to_runs`, for runs (k, 6) and the remaining columns (n,)."""
    runs = np.asarray(runs, dtype=np.int64).reshape(-1, len(RUN))
    frames = runs[:, 2]
    event, frame, _, radar, rain, stride = np.repeat(runs, frames, axis=0).T
    step = np.arange(frames.sum()) - np.repeat(np.cumsum(frames) - frames, frames)
    rains = np.where(rain < 0, -1, rain + step * stride)
    return np.column_stack([event, frame + step, radar + step * stride, rains, strong, intensity]).astype(np.int64)


def _joins(run: list[int], event: int, frame: int, radar: int, rain: int) -> bool:
    first_event, first_frame, frames, first_radar, first_rain, stride = run
    step = frames * stride if frames > 1 else radar - first_radar
    expected_rain = -1 if first_rain < 0 else first_rain + step
    return (event, frame, radar, rain) == (first_event, first_frame + frames, first_radar + step, expected_rain)
