"""Frames at irregular times → frames at a regular step: taken as they are where the times agree, else moved there."""

import contextlib
import io
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Field, Times

TOLERANCE_SECONDS = 30.0
"""A source frame that near to a wanted time is taken bit for bit."""
METHOD = (
    "both neighbours advected to the time along their motion and blended (as pysteps's advection correction, after "
    "Anagnostou & Krajewski 1999); motion by dense Lucas–Kanade of zh at the lowest level"
)
_FEWEST_ECHOES = 50


@dataclass(frozen=True)
class Regular:
    """Frames at a regular step.

    Attributes:
        times: (t,) UTC.
        radar: (t, v, z, y, x); NaN where there is no echo.
        rain: (t, y, x) in mm/h or None; NaN where unseen.
        note: How many frames were taken, how many interpolated, and how.
    """

    times: Times
    radar: Field
    rain: Field | None
    note: dict[str, Any] = field(default_factory=dict)


def to_regular_steps(
    times: Times, radar: Field, rain: Field | None, *, step_minutes: float, tolerance: float = TOLERANCE_SECONDS
) -> Regular:
    """Frames at the first time and every `step_minutes` after it, up to the last.

    Args:
        times: (n,) ascending, without duplicates.
        radar: (n, v, z, y, x), zh first; NaN where there is no echo.
        rain: (n, y, x) in mm/h, or None.
        step_minutes: Between the frames wanted.
        tolerance: Seconds by which a frame may miss its time and still be taken.
    """
    seconds = (times - times[0]) / np.timedelta64(1, "s")
    wanted = np.arange(0, seconds[-1] + tolerance, 60 * step_minutes)
    parts = [radar.reshape(len(radar), -1, *radar.shape[-2:])] + ([] if rain is None else [rain[:, None]])
    stack = np.concatenate(parts, axis=1)
    motions: dict[int, npt.NDArray[np.float64]] = {}
    frames, taken = [], 0
    for second in wanted:
        nearest = int(np.abs(seconds - second).argmin())
        if abs(seconds[nearest] - second) <= tolerance:
            frames.append(stack[nearest])
            taken += 1
            continue
        before = int(np.searchsorted(seconds, second) - 1)
        if before not in motions:
            motions[before] = motion_between(radar[before, 0, 0], radar[before + 1, 0, 0])
        share = (second - seconds[before]) / (seconds[before + 1] - seconds[before])
        frames.append(between(stack[before], stack[before + 1], motions[before], float(share)))
    out = np.stack(frames)
    still = sum(not motion.any() for motion in motions.values())
    note: dict[str, Any] = {"step_minutes": step_minutes, "taken": taken, "interpolated": len(frames) - taken}
    if motions:
        note |= {"method": METHOD, "pairs_without_motion": still}
    return Regular(
        times=times[0] + (wanted * np.timedelta64(1, "s")).astype("timedelta64[s]"),
        radar=(out if rain is None else out[:, :-1]).reshape(len(out), *radar.shape[1:]),
        rain=None if rain is None else out[:, -1],
        note=note,
    )


def motion_between(first: Field, second: Field) -> npt.NDArray[np.float64]:
    """Motion of the echo from one frame to the next, (2, y, x): pixels to the right and down; zero where it has none.

    Args:
        first: zh (y, x) in dBZ, NaN where there is no echo.
        second: The frame after it.

    Raises:
        BadInput: the extra `ingest` is not installed.
    """
    if min(np.isfinite(first).sum(), np.isfinite(second).sum()) < _FEWEST_ECHOES:
        return np.zeros((2, *first.shape))
    lucas_kanade = _lucas_kanade()
    floor = float(min(np.nanmin(first), np.nanmin(second)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        motion = lucas_kanade(np.nan_to_num(np.stack([first, second]), nan=floor).astype(np.float64))
    return np.nan_to_num(np.asarray(motion))


def between(first: Field, second: Field, motion: npt.NDArray[np.float64], share: float) -> Field:
    """The fields at a time between two frames.

    Args:
        first: (c, y, x) with NaN for nothing there.
        second: The same, later.
        motion: (2, y, x) in pixels from the first to the second.
        share: Of the way from the first to the second, 0 to 1.

    Returns:
        (c, y, x); a pixel has a value where at least half of the weight of the pixels it comes from has one.
    """
    y, x = np.indices(motion.shape[1:], dtype=np.float64)
    from_first = np.stack([y - share * motion[1], x - share * motion[0]])
    from_second = np.stack([y + (1 - share) * motion[1], x + (1 - share) * motion[0]])
    weighted, weight = np.zeros(first.shape), np.zeros(first.shape)
    for frames, places, part in ((first, from_first, 1 - share), (second, from_second, share)):
        for c, values in enumerate(frames):
            there = np.isfinite(values)
            weighted[c] += part * map_coordinates(np.where(there, values, 0), places, order=1, mode="nearest")
            weight[c] += part * map_coordinates(there.astype(np.float64), places, order=1, mode="nearest")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight >= 0.5, weighted / weight, np.nan).astype(np.float32)


def _lucas_kanade() -> Any:
    try:
        # pysteps tells on standard output which configuration it found.
        with contextlib.redirect_stdout(io.StringIO()):
            from pysteps.motion.lucaskanade import dense_lucaskanade
    except ImportError as error:
        raise BadInput(f"{error.name} is not installed", "ingest", "pip install 'polarcast[ingest]'") from None
    return dense_lucaskanade
