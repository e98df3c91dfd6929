"""What is unusual about the radar fields that a forecast is made of: said, never silently taken."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import UNITS
from polarcast.data.scaling import RANGES

_NOTABLE_MISSING = 0.01
"""Share of the echoes; a rounded ZDR may well be 0 here and there."""

_LISTED = 5

Counts = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """What there is to say of some frames' fields, each array (t, v, z).

    Attributes:
        pixels: Of the field.
        echoes: Pixels with echo, of zh where it is read.
        missing: Echoes at which the field is 0, its fill value.
        outside: Pixels beyond the nominal range, `scaling.RANGES`.
        least: Smallest value.
        most: Largest value.
    """

    pixels: Counts
    echoes: Counts
    missing: Counts
    outside: Counts
    least: Counts
    most: Counts

    @classmethod
    def of(cls, radar: npt.NDArray[np.floating], variables: Sequence[str]) -> "Seen":
        """Look at radar (t, v, z, y, x) in the units of its variables, fill 0."""
        reference = radar[:, variables.index("zh")] if "zh" in variables else radar.any(1)
        echo = np.broadcast_to((reference != 0)[:, None], radar.shape)
        low, high = (np.array([RANGES[v][i] for v in variables])[:, None, None, None] for i in (0, 1))
        return cls(
            pixels=np.full(radar.shape[:3], radar[0, 0, 0].size, float),
            echoes=_counted(echo),
            missing=_counted(echo & (radar == 0)),
            outside=_counted((radar < low) | (radar > high)),
            least=radar.min((-2, -1)).astype(float),
            most=radar.max((-2, -1)).astype(float),
        )

    @classmethod
    def joined(cls, parts: Sequence["Seen"]) -> "Seen":
        """Frames after frames."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def _counted(where: npt.NDArray[np.bool_]) -> Counts:
    return where.sum((-2, -1)).astype(float)


def unusual(seen: Seen, frames: Numbers, variables: Sequence[str], heights_km: Sequence[float]) -> list[str]:
    """One line for each thing that a forecaster should know of the input.

    Args:
        seen: Of the frames.
        frames: Their numbers (t,), ascending.
        variables: Along v.
        heights_km: Along z.
    """
    return [
        *_gaps(frames),
        *_empty(seen, frames, heights_km),
        *_missing(seen, frames, variables, heights_km),
        *_outside(seen, variables),
    ]


def named(frames: Numbers) -> str:
    """`frame 3`, `frames 3–7`, `frames 1, 4, 9`, or how many."""
    first, last = int(frames[0]), int(frames[-1])
    if len(frames) == 1:
        return f"frame {first}"
    if last - first == len(frames) - 1:
        return f"frames {first}–{last}"
    if len(frames) <= _LISTED:
        return f"frames {', '.join(map(str, frames))}"
    return f"{len(frames)} frames from {first} to {last}"


def percent(share: float) -> str:
    """`12.0%`, or `< 0.1%` of what is there at all."""
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def _gaps(frames: Numbers) -> list[str]:
    gone = np.setdiff1d(np.arange(frames[0], frames[-1] + 1), frames)
    return [f"{named(gone)}: not in the input, and not forecast"] if len(gone) else []


def _empty(seen: Seen, frames: Numbers, heights_km: Sequence[float]) -> list[str]:
    empty = frames[seen.echoes[:, 0, 0] == 0]
    return [f"{named(empty)}: no echo at all at {heights_km[0]:g} km"] if len(empty) else []


def _missing(seen: Seen, frames: Numbers, variables: Sequence[str], heights_km: Sequence[float]) -> list[str]:
    lines = []
    share = seen.missing / np.maximum(seen.echoes, 1)
    for v, variable in enumerate(variables):
        for z, height in enumerate(heights_km):
            bad = share[:, v, z] >= _NOTABLE_MISSING
            if variable == "zh" or not bad.any():
                continue
            of_all = seen.missing[bad, v, z].sum() / seen.echoes[bad, v, z].sum()
            lines.append(
                f"{named(frames[bad])}: {percent(of_all)} of the echoes at {height:g} km have no {variable.upper()}; "
                f"taken as 0 {UNITS[variable]}"
            )
    return lines


def _outside(seen: Seen, variables: Sequence[str]) -> list[str]:
    lines = []
    for v, variable in enumerate(variables):
        if not seen.outside[:, v].any():
            continue
        low, high = RANGES[variable]
        share = seen.outside[:, v].sum() / seen.pixels[:, v].sum()
        lines.append(
            f"{variable.upper()}: {percent(share)} of the pixels lie outside {low:g} … {high:g} {UNITS[variable]} "
            f"(from {seen.least[:, v].min():.1f} to {seen.most[:, v].max():.1f}); given to the model as they are"
        )
    return lines
