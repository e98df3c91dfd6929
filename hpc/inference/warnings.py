"""Warnings about unusual radar input fields of a forecast."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import UNITS
from polarcast.data.scaling import RANGES

_MAX_MISSING = 0.01
"""Largest fraction of echo pixels without a value that gives no warning; a rounded ZDR may be exactly 0."""

_LISTED = 5

Counts = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FieldStatistics:
    """Statistics of radar fields, each array (t, v, z).

    Attributes:
        pixels: Number of pixels.
        echoes: Number of pixels with echo, in zh if it is read.
        missing: Number of echo pixels where the field is 0, its fill value.
        outside: Number of pixels outside the nominal range, `scaling.RANGES`.
        minimum: Smallest value.
        maximum: Largest value.
    """

    pixels: Counts
    echoes: Counts
    missing: Counts
    outside: Counts
    minimum: Counts
    maximum: Counts

    @classmethod
    def measure(cls, radar: npt.NDArray[np.floating], variables: Sequence[str]) -> "FieldStatistics":
        """Compute the statistics of radar (t, v, z, y, x), in the units of its variables with fill value 0."""
        reference = radar[:, variables.index("zh")] if "zh" in variables else radar.any(1)
        echo = np.broadcast_to((reference != 0)[:, None], radar.shape)
        low, high = (np.array([RANGES[v][i] for v in variables])[:, None, None, None] for i in (0, 1))
        return cls(
            pixels=np.full(radar.shape[:3], radar[0, 0, 0].size, float),
            echoes=_count(echo),
            missing=_count(echo & (radar == 0)),
            outside=_count((radar < low) | (radar > high)),
            minimum=radar.min((-2, -1)).astype(float),
            maximum=radar.max((-2, -1)).astype(float),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["FieldStatistics"]) -> "FieldStatistics":
        """Concatenate statistics along the frames."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def _count(where: npt.NDArray[np.bool_]) -> Counts:
    return where.sum((-2, -1)).astype(float)


def input_warnings(
    statistics: FieldStatistics, frames: Numbers, variables: Sequence[str], heights_km: Sequence[float]
) -> list[str]:
    """Return warnings about the input, one line each.

    Args:
        statistics: Statistics of the frames.
        frames: Frame numbers (t,), ascending.
        variables: Names of the variables, (v,).
        heights_km: Heights of the levels, (z,).
    """
    return [
        *_gaps(frames),
        *_empty(statistics, frames, heights_km),
        *_missing(statistics, frames, variables, heights_km),
        *_outside(statistics, variables),
    ]


def describe_frames(frames: Numbers) -> str:
    """Return `frame 3`, `frames 3–7`, `frames 1, 4, 9`, or the number and range of more frames."""
    first, last = int(frames[0]), int(frames[-1])
    if len(frames) == 1:
        return f"frame {first}"
    if last - first == len(frames) - 1:
        return f"frames {first}–{last}"
    if len(frames) <= _LISTED:
        return f"frames {', '.join(map(str, frames))}"
    return f"{len(frames)} frames from {first} to {last}"


def percent(share: float) -> str:
    """Return a fraction as `12.0%`, or `< 0.1%` if smaller."""
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def _gaps(frames: Numbers) -> list[str]:
    absent = np.setdiff1d(np.arange(frames[0], frames[-1] + 1), frames)
    return [f"{describe_frames(absent)}: not in the input, not forecast"] if len(absent) else []


def _empty(statistics: FieldStatistics, frames: Numbers, heights_km: Sequence[float]) -> list[str]:
    empty = frames[statistics.echoes[:, 0, 0] == 0]
    return [f"{describe_frames(empty)}: no echo at {heights_km[0]:g} km"] if len(empty) else []


def _missing(
    statistics: FieldStatistics, frames: Numbers, variables: Sequence[str], heights_km: Sequence[float]
) -> list[str]:
    lines = []
    share = statistics.missing / np.maximum(statistics.echoes, 1)
    for v, variable in enumerate(variables):
        for z, height in enumerate(heights_km):
            bad = share[:, v, z] >= _MAX_MISSING
            if variable == "zh" or not bad.any():
                continue
            fraction = statistics.missing[bad, v, z].sum() / statistics.echoes[bad, v, z].sum()
            lines.append(
                f"{describe_frames(frames[bad])}: {percent(fraction)} of the echo pixels at {height:g} km have no "
                f"{variable.upper()}; treated as 0 {UNITS[variable]}"
            )
    return lines


def _outside(statistics: FieldStatistics, variables: Sequence[str]) -> list[str]:
    lines = []
    for v, variable in enumerate(variables):
        if not statistics.outside[:, v].any():
            continue
        low, high = RANGES[variable]
        fraction = statistics.outside[:, v].sum() / statistics.pixels[:, v].sum()
        lines.append(
            f"{variable.upper()}: {percent(fraction)} of the pixels are outside {low:g} … {high:g} {UNITS[variable]} "
            f"(from {statistics.minimum[:, v].min():.1f} to {statistics.maximum[:, v].max():.1f}); "
            "passed to the model unchanged"
        )
    return lines
