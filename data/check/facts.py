"""Summarize a frame in a few kilobytes, so that an event of 200 frames is checked without holding it in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Real = npt.NDArray[np.float64]

COARSE = 32
"""Pixels along each side of the coarse fields that are compared."""
CLASSES_DBZ = ((20.0, 26.0), (30.0, 36.0), (40.0, 46.0))
"""Classes of ZH over which ZDR grows linearly, while KDP grows sevenfold from class to class."""
RAIN_DBZ = (35.0, 50.0)
"""Range in which Z–R holds within a factor of two. Below it, KDP-based rain is noise; above it, there is hail."""
VALUE_EDGES = np.array([-np.inf, *np.arange(-20, 80.5, 0.5), np.inf])
FEWEST_ECHOES = 50

LIMITS = {"zh": (-60.0, 100.0), "zdr": (-40.0, 40.0), "kdp": (-30.0, 80.0), "rain_rate": (0.0, 2000.0)}
"""Limits that no radar value exceeds: the extremes of NJU-CPOL (dBZ −40 … 99.7, ZDR ±35, KDP −17 … 52, rain 1226 mm/h)
with a margin."""
PLAUSIBLE = {"zh": (-20.0, 75.0), "zdr": (-8.0, 10.0), "kdp": (-8.0, 20.0), "rain_rate": (0.0, 400.0)}
"""Ranges that contain all but a few percent of echoes, at any noise level."""


@dataclass(frozen=True)
class FrameFacts:
    """Summary of one frame.

    Attributes:
        frame: Frame number.
        echoes: (z,) number of pixels with echo.
        extremes: (v, z, 2) minimum and maximum; the last row is that of the rain, if present.
        implausible: (v, z) share of echoes outside `PLAUSIBLE`.
        constant: (v, z) value of a constant field, else NaN.
        digest: Hash of zh, to find duplicate frames; empty without echo.
        picture: (COARSE, COARSE) block means of zh at the lowest level, no echo as 0 dBZ.
        masks: (v, z, COARSE, COARSE) block means of the mask of nonzero values.
        rain: (2, COARSE, COARSE) block means of the rain rate and of the Z–R rain rate; None without rain.
        values: (v, bins of `VALUE_EDGES`) histogram at the lowest level, over pixels where any variable is nonzero.
        classes: (v, classes of ZH, 2) count and sum of each variable at the lowest level.
        rain_sums: Number of pixels in `RAIN_DBZ`, and their sums of the rain rate and of the Z–R rain rate.
    """

    frame: int
    echoes: npt.NDArray[np.int64]
    extremes: Real
    implausible: Real
    constant: Real
    digest: bytes
    picture: Field
    masks: Field
    rain: Field | None
    values: npt.NDArray[np.int64]
    classes: Real
    rain_sums: Real


def frame_facts(frame: int, radar: Field, rain: Field | None, variables: Sequence[str]) -> FrameFacts:
    """Summarize one frame.

    Args:
        frame: Frame number.
        radar: (v, z, y, x) in dBZ, dB, deg/km, zh first; fill value 0.
        rain: (y, x) in mm/h, or None.
        variables: Names along v.
    """
    echo = radar[0] != 0
    z_r = np.where(echo[0], (10 ** (np.clip(radar[0, 0], *LIMITS["zh"]) / 10) / 200) ** (1 / 1.6), 0)
    strong = (radar[0, 0] >= RAIN_DBZ[0]) & (radar[0, 0] < RAIN_DBZ[1])
    has_echo = echo.sum() >= FEWEST_ECHOES
    return FrameFacts(
        frame=frame,
        echoes=echo.sum((-2, -1)),
        extremes=_with_rain(np.stack([radar.min((-2, -1)), radar.max((-2, -1))], -1), rain),
        implausible=_implausible(radar, echo, variables),
        constant=np.where(radar.min((-2, -1)) == radar.max((-2, -1)), radar[..., 0, 0], np.nan),
        digest=hashlib.blake2b(radar[0].tobytes(), digest_size=16).digest() if has_echo else b"",
        picture=coarse(np.maximum(radar[0, 0], 0)),
        masks=coarse((radar != 0).astype(np.float32)),
        rain=None if rain is None else coarse(np.stack([rain, z_r.astype(np.float32)])),
        values=_histograms(radar[:, 0]),
        classes=_class_sums(radar[:, 0]),
        rain_sums=np.array([strong.sum(), 0 if rain is None else rain[strong].sum(), z_r[strong].sum()], np.float64),
    )


def coarse(fields: Field) -> Field:
    """Return block means of fields (…, y, x), about `COARSE` blocks along each side.

    The blocks are centred, so that the result is equivariant to flips and rotations.
    """
    y, x = fields.shape[-2:]
    side = max(1, min(y, x) // COARSE)
    ny, nx = y // side, x // side
    top, left = (y - ny * side) // 2, (x - nx * side) // 2
    inner = fields[..., top : top + ny * side, left : left + nx * side]
    return np.asarray(inner.reshape(*fields.shape[:-2], ny, side, nx, side).mean((-3, -1)), np.float32)


def _with_rain(extremes: Real, rain: Field | None) -> Real:
    if rain is None:
        return extremes
    rain_extremes = np.broadcast_to([rain.min(), rain.max()], (1, extremes.shape[1], 2))
    return np.concatenate([extremes, rain_extremes])


def _implausible(radar: Field, echo: npt.NDArray[np.bool_], variables: Sequence[str]) -> Real:
    out = np.zeros(radar.shape[:2])
    counts = np.maximum(echo.sum((-2, -1)), FEWEST_ECHOES)
    for v, name in enumerate(variables):
        low, high = PLAUSIBLE[name]
        out[v] = (echo & ((radar[v] < low) | (radar[v] > high))).sum((-2, -1)) / counts
    return out


def _histograms(lowest: Field) -> npt.NDArray[np.int64]:
    valid = (lowest != 0).any(0)
    return np.stack([np.histogram(values[valid], VALUE_EDGES)[0] for values in lowest])


def _class_sums(lowest: Field) -> Real:
    zh = lowest[0]
    chosen = [(zh >= low) & (zh < high) for low, high in CLASSES_DBZ]
    return np.array([[(c.sum(), values[c].sum(dtype=np.float64)) for c in chosen] for values in lowest])
