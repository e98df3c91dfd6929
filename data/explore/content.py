"""What an archive holds for an exploration: variables, heights and rain, and what can't be shown without them."""

from dataclasses import dataclass

import numpy as np

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput

STORM_KM = 3.0
"""Height at which storms are described; the nearest one of the archive is used."""
GROUND_KM = 2.0
"""Greatest height at which echo is compared with rain at the ground."""
ICE_KM = (6.0, 8.0)
"""Heights that count as ice."""
FEWEST_PIXELS = 32
"""Least pixels per side, as of synthetic archives."""


@dataclass(frozen=True)
class ArchiveContent:
    """Variables, heights and rain of an archive, and the grid of its frames."""

    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    has_rain: bool
    spacing_km: float = 1.0
    step_minutes: float = 6.0

    @property
    def storm(self) -> int:
        """Level nearest 3 km."""
        return self.nearest(STORM_KM)

    @property
    def ground(self) -> int | None:
        """Lowest level, if it is at most 2 km high."""
        lowest = int(np.argmin(self.heights_km))
        return lowest if self.heights_km[lowest] <= GROUND_KM else None

    @property
    def ice(self) -> int | None:
        """Level nearest 7 km, if it is from 6 to 8 km high."""
        level = self.nearest(sum(ICE_KM) / 2)
        return level if ICE_KM[0] <= self.heights_km[level] <= ICE_KM[1] else None

    def nearest(self, height_km: float) -> int:
        """Return the level nearest a height; the lower one of two that are equally near."""
        return min(range(len(self.heights_km)), key=lambda z: (abs(self.heights_km[z] - height_km), self.heights_km[z]))

    def column(self, variable: str, level: int) -> int:
        """Return the place of a field among all fields, variable by variable."""
        return self.variables.index(variable) * len(self.heights_km) + level

    @property
    def left_out(self) -> list[str]:
        """What is left out of tables and figures, with the reason; one line each."""
        lines = []
        if self.heights_km[self.storm] != STORM_KM:
            lines.append(f"no height of {STORM_KM:g} km: rows are of {self.heights_km[self.storm]:g} km, the nearest")
        if "zdr" not in self.variables:
            lines.append("no ZDR: its rows and maps, and fig_7_1")
        if "kdp" not in self.variables:
            lines.append("no KDP: its rows and maps, and the test of the rain grid")
        if not self.has_rain:
            lines.append("no rain grid: rows and test of the rain grid, fig_7_1 and fig_7_2")
        elif self.ground is None:
            lines.append(f"no height up to {GROUND_KM:g} km: rows of the Z-R relation, and fig_7_1")
        if self.ice is None:
            lines.append(f"no height from {ICE_KM[0]:g} to {ICE_KM[1]:g} km: rows of ice")
        return lines


def content_of(archive: Archive) -> ArchiveContent:
    """Return what an archive holds."""
    return ArchiveContent(
        archive.variables, archive.heights_km, archive.has_rain, archive.spacing_km, archive.time_step_minutes
    )


def check_frames(archive: Archive) -> int:
    """Check that an archive has frames, and that they are squares; return the pixels per side. Raises BadInput."""
    event, frames = next((item for item in archive.frames.items() if item[1]), (-1, ()))
    if not frames:
        raise BadInput("the events have no frames", archive.root, "add data_dir_NNN/frame_MMM.npy to each folder")
    height, width = archive.read_radar(event, frames[0]).shape[-2:]
    if height != width or height < FEWEST_PIXELS:
        raise BadInput(f"frames of {height} × {width} pixels", archive.root, f"give squares of {FEWEST_PIXELS} or more")
    return int(width)


def chosen_events(archive: Archive, events: int | None) -> list[int]:
    """Return the numbers of evenly spaced events with frames; of all of them by default."""
    numbers = [event for event, frames in archive.frames.items() if frames]
    wanted = min(events or len(numbers), len(numbers))
    return [numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, wanted).round().astype(int))]
