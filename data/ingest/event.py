"""What every kind of input is turned into: one event on the archive's grid, with the story of how it came about."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Times = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class IngestedEvent:
    """Frames at a regular step on one grid, ready for `archive.write_event`.

    Attributes:
        times: (t,) UTC, datetime64[s].
        radar: (t, v, z, y, x) in the archive's units (dBZ, dB, deg/km); 0 where there is no echo or no view.
        rain: (t, y, x) in mm/h, or None where the source tells nothing of rain.
        covered: (z, y, x), the share of the frames in which the radar looked at the pixel, 0 to 1.
        variables: Names along v; what the source lacks is not there.
        heights_km: Heights along z.
        note: Provenance: sources with their sums, steps with library and method, what was masked or resampled.
    """

    times: Times
    radar: Field
    rain: Field | None
    covered: Field
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    note: dict[str, Any] = field(default_factory=dict)
