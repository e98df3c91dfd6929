"""Table of frames in a manifest: one row per frame, stored as runs of frames at equal distances in a tar."""

import numpy as np
import numpy.typing as npt

COLUMNS = ("event", "frame", "radar_offset", "rain_offset", "strong_pixels", "intensity_ppm")
"""Columns of the table.

Offsets are in bytes from the start of the tar to the first value of the frame's array, −1 without a rain grid. Strong
pixels are counted by `selection.strong_pixels`; intensity is `selection.intensity_ppm`.
"""
RUN = ("event", "frame", "frames", "radar_offset", "rain_offset", "stride")
EVENT, FRAME, RADAR, RAIN, STRONG, INTENSITY = range(len(COLUMNS))

Table = npt.NDArray[np.int64]


def to_runs(table: Table) -> list[list[int]]:
    """Group frames into runs of `RUN`: consecutive frames of one event, `stride` bytes apart."""
    runs: list[list[int]] = []
    for event, frame, radar, rain, *_ in table.tolist():
        if runs and _joins(runs[-1], event, frame, radar, rain):
            last = runs[-1]
            last[2], last[5] = last[2] + 1, (radar - last[3]) // last[2]
        else:
            runs.append([event, frame, 1, radar, rain, 0])
    return runs


def from_runs(runs: npt.NDArray[np.int64]) -> Table:
    """Expand runs (k, 6) to one row per frame with the first four of `COLUMNS`, (n, 4)."""
    event, frame, frames, radar, rain, stride = np.asarray(runs, dtype=np.int64).reshape(-1, len(RUN)).T
    step = np.arange(frames.sum()) - np.repeat(np.cumsum(frames) - frames, frames)
    table = np.empty((len(step), 4), np.int64)
    table[:, EVENT] = np.repeat(event, frames)
    table[:, FRAME] = np.repeat(frame, frames) + step
    step *= np.repeat(stride, frames)
    table[:, RADAR] = np.repeat(radar, frames) + step
    table[:, RAIN] = np.repeat(rain, frames) + np.where(np.repeat(rain, frames) < 0, 0, step)
    return table


def _joins(run: list[int], event: int, frame: int, radar: int, rain: int) -> bool:
    first_event, first_frame, frames, first_radar, first_rain, stride = run
    step = frames * stride if frames > 1 else radar - first_radar
    expected_rain = -1 if first_rain < 0 else first_rain + step
    return (event, frame, radar, rain) == (first_event, first_frame + frames, first_radar + step, expected_rain)
