"""Table of frames in a manifest: one row per frame, stored as runs of frames at equal distances in a tar."""

import numpy as np
import numpy.typing as npt

COLUMNS = ("event", "frame", "radar_offset", "rain_offset", "strong_pixels", "intensity_ppm", "observed_offset")
"""Columns of the table.

Offsets are in bytes from the start of the tar to the first value of the frame's array, −1 without a rain grid, or
without masks of observed pixels. Strong pixels are counted by `selection.strong_pixels`; intensity is
`selection.intensity_ppm`.
"""
LISTED = ("strong_pixels", "intensity_ppm")
"""Columns that a manifest lists by frame; the others follow from its runs."""
RUN = ("event", "frame", "frames", "radar_offset", "rain_offset", "stride", "observed_offset")
UNMASKED_RUN = RUN[:-1]
"""Columns of the runs of shards without masks."""
EVENT, FRAME, RADAR, RAIN, STRONG, INTENSITY, OBSERVED = range(len(COLUMNS))

Table = npt.NDArray[np.int64]


def to_runs(table: Table) -> list[list[int]]:
    """Group frames into runs of `RUN`: consecutive frames of one event, `stride` bytes apart."""
    runs: list[list[int]] = []
    for event, frame, radar, rain, _, _, observed in table.tolist():
        if runs and _joins(runs[-1], event, frame, radar, rain, observed):
            last = runs[-1]
            last[2], last[5] = last[2] + 1, (radar - last[3]) // last[2]
        else:
            runs.append([event, frame, 1, radar, rain, 0, observed])
    return runs


def from_runs(runs: npt.NDArray[np.int64]) -> Table:
    """Expand runs (k, 7) to one row of `COLUMNS` per frame, (n, 7); those of `LISTED` are 0."""
    event, frame, frames, radar, rain, stride, observed = np.asarray(runs, dtype=np.int64).reshape(-1, len(RUN)).T
    step = np.arange(frames.sum()) - np.repeat(np.cumsum(frames) - frames, frames)
    table = np.zeros((len(step), len(COLUMNS)), np.int64)
    table[:, EVENT] = np.repeat(event, frames)
    table[:, FRAME] = np.repeat(frame, frames) + step
    step *= np.repeat(stride, frames)
    table[:, RADAR] = np.repeat(radar, frames) + step
    for column, first in ((RAIN, np.repeat(rain, frames)), (OBSERVED, np.repeat(observed, frames))):
        table[:, column] = first + np.where(first < 0, 0, step)
    return table


def _joins(run: list[int], event: int, frame: int, radar: int, rain: int, observed: int) -> bool:
    first_event, first_frame, frames, first_radar, first_rain, stride, first_observed = run
    step = frames * stride if frames > 1 else radar - first_radar
    if (event, frame, radar) != (first_event, first_frame + frames, first_radar + step):
        return False
    return all(
        now == (-1 if first < 0 else first + step) for first, now in ((first_rain, rain), (first_observed, observed))
    )
