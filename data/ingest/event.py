"""The result of ingesting any input: one event on the archive's grid, with its provenance."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Times = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class IngestedEvent:
    """Frames at a regular step on one grid, ready for `archive.write_event`.

    Attributes:
        times: (t,) UTC, datetime64[s].
        radar: (t, v, z, y, x) in the archive's units (dBZ, dB, deg/km); 0 where there is no echo or no data.
        rain: (t, y, x) in mm/h, or None where the source has no rain.
        covered: (z, y, x) share of the frames in which the pixel has data, 0 to 1.
        variables: Names along v; only those that the source provides.
        heights_km: Heights along z.
        observed: (t, levels, y, x) observed pixels at the heights and, with rain, on the ground; None if all are.
        note: Provenance: sources with SHA-256, processing steps with library and method, masking, resampling.
    """

    times: Times
    radar: Field
    rain: Field | None
    covered: Field
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    note: dict[str, Any] = field(default_factory=dict)
    observed: Mask | None = None
