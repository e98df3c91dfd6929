"""Windows of consecutive frames of a split."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.loading.permute import Indices
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import EVENT, FRAME, INTENSITY, OBSERVED, RADAR, RAIN, STRONG, Table


@dataclass(frozen=True)
class Windows:
    """Windows of one split, sorted by (event, first frame).

    A window never crosses an event or a missing frame. Context frames precede it; a missing one is filled with the next
    available frame.

    Attributes:
        rows: Frames of the split, sorted by (event, frame): (frames, 1 + COLUMNS), as in the manifest.
        starts: Row of each window's first frame, (windows,).
        frames: Window length in frames.
        targets: Number of frames to forecast at the end of a window.
        context: Number of frames read before a window.
    """

    rows: Table
    starts: Indices
    frames: int
    targets: int
    context: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def length(self) -> int:
        """Number of frames read per window, including context."""
        return self.context + self.frames

    def events(self) -> Indices:
        """Event of each window, (windows,)."""
        return self.rows[self.starts, 1 + EVENT]

    def begins(self, windows: Indices) -> Table:
        """Event and first frame of some windows, (windows, 2)."""
        return self.rows[self.starts[windows], 1 + EVENT : 2 + FRAME]

    def shards(self) -> Indices:
        """Shards of each window's first and last frame, (windows, 2)."""
        return np.stack([self.rows[self._first_rows(), 0], self.rows[self.starts + self.frames - 1, 0]], 1)

    def used_shards(self) -> Indices:
        """Shards of all frames of all windows, ascending, (shards,)."""
        depth = np.zeros(len(self.rows) + 1, np.int64)
        np.add.at(depth, self._first_rows(), 1)
        np.add.at(depth, self.starts + self.frames, -1)
        return np.unique(self.rows[np.cumsum(depth[:-1]) > 0, 0])

    def touching(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether each window has a frame in one of the `chosen` (shards,), (windows,)."""
        before = np.concatenate([[0], np.cumsum(chosen[self.rows[:, 0]])])
        return before[self.starts + self.frames] > before[self._first_rows()]

    def intensity(self) -> npt.NDArray[np.float64]:
        """Mean intensity of heavy rain in each window's target frames, 0 … 1 (`selection.intensity_ppm`)."""
        sums = np.concatenate([[0], np.cumsum(self.rows[:, 1 + INTENSITY])])
        ends = self.starts + self.frames
        return (sums[ends] - sums[ends - self.targets]) / (1e6 * self.targets)

    def lowest_input(self, score: Callable[[Indices, Indices], npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Return the lowest score of each window's input frames, context included, (windows,).

        Args:
            score: Function from the events and frames of the split, both (frames,), to a score of each.
        """
        of_frame = score(self.rows[:, 1 + EVENT], self.rows[:, 1 + FRAME])
        ahead = self.targets if self.frames > self.targets else 0
        return of_frame[self._indices(np.arange(len(self)))[:, : self.length - ahead]].min(1)

    def places(self, windows: Indices) -> Table:
        """Locations of the frames of some windows, (windows, frames, 3): shard, radar offset, rain offset."""
        return self.rows[self._indices(windows)][..., [0, 1 + RADAR, 1 + RAIN]]

    def mask_places(self, windows: Indices) -> Table:
        """Locations of the masks of some windows, (windows, frames, 2): shard, offset or −1 without masks."""
        return self.rows[self._indices(windows)][..., [0, 1 + OBSERVED]]

    def _first_rows(self) -> Indices:
        """Row of each window's first frame including context, (windows,); the others follow without a gap."""
        return self._indices(np.arange(len(self)))[:, 0] if self.context else self.starts

    def _indices(self, windows: Indices) -> Indices:
        """Rows of the frames of some windows, (windows, length)."""
        starts = self.starts[windows][:, None]
        if not self.context:
            return starts + np.arange(self.frames)
        rows = np.maximum(starts + np.arange(-self.context, self.frames), 0)
        # Rows before a window may belong to another event or precede a missing frame.
        event, frame = self.rows[:, 1 + EVENT], self.rows[:, 1 + FRAME]
        joined = (event[rows] == event[starts]) & (frame[rows] - frame[starts] == rows - starts)
        return np.where(joined, rows, _next_joined(joined, rows))


def _next_joined(joined: npt.NDArray[np.bool_], rows: Indices) -> Indices:
    """For each row, the next joined row at or after it along the last axis."""
    length = rows.shape[1]
    place = np.where(joined, np.arange(length), length - 1)
    later = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    return np.take_along_axis(rows, later, axis=1)


def windows_of(
    manifest: Manifest, split: str, frames: int = 1, targets: int | None = None, context: int = 0
) -> Windows:
    """Find all windows of a split that pass the manifest's window filter.

    Args:
        manifest: Manifest of the shards.
        split: `train`, `validation` or `test`.
        frames: Window length in frames.
        targets: Number of frames to forecast at the end of a window, all by default. The filter requires strong echo
            in one of them.
        context: Number of frames to read before each window.

    Raises:
        BadInput: The split has no such window.
    """
    rows = _frames_of(manifest, split)
    starts = _starts(rows, frames)
    chosen = starts[_is_strong(rows, starts, frames, targets or frames, manifest.selection["min_strong_pixels"])]
    if not len(chosen):
        weak = f"; {len(starts)} have too little strong echo" if len(starts) else ""
        raise BadInput(
            f"the {split} split has no window of {frames} frames{weak}", manifest.source.shown, "shard more events"
        )
    return Windows(rows, chosen, frames, targets or frames, context)


def _frames_of(manifest: Manifest, split: str) -> Table:
    rows = manifest.samples[np.isin(manifest.samples[:, 1 + EVENT], manifest.splits.get(split, ()))]
    event, frame = rows[:, 1 + EVENT], rows[:, 1 + FRAME]
    later = np.diff(event)
    if ((later > 0) | ((later == 0) & (np.diff(frame) > 0))).all():
        return rows
    return rows[np.lexsort((frame, event))]


def _starts(rows: Table, frames: int) -> Indices:
    if len(rows) < frames:
        return np.empty(0, np.int64)
    first, last = rows[: len(rows) - frames + 1], rows[frames - 1 :]
    same_event = first[:, 1 + EVENT] == last[:, 1 + EVENT]
    return np.flatnonzero(same_event & (last[:, 1 + FRAME] - first[:, 1 + FRAME] == frames - 1))


def _is_strong(rows: Table, starts: Indices, frames: int, targets: int, required: int) -> npt.NDArray[np.bool_]:
    """Whether at least one target frame of each window has `required` strong pixels."""
    if not required:
        return np.ones(len(starts), bool)
    enough = np.concatenate([[0], np.cumsum(rows[:, 1 + STRONG] >= required)])
    return enough[starts + frames] > enough[starts + frames - targets]
