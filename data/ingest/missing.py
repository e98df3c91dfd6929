"""Values of ZDR and KDP that are missing where zh has echo.

An archive has 0 where there is no value, and its masks tell no variables apart. What is missing is therefore counted in
the event's note, and a variable without any value at the echo of a level is refused.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput

FEWEST_ECHOES = 50
"""Pixels of echo below which the absence of a variable is not judged."""
NOTE, ECHO_NOTE = "missing_of_echo", "echo_pixels"
"""Keys of the event's note: share of echo pixels without a value by variable and height, and echo pixels by height."""

Counts = npt.NDArray[np.int64]
Place = tuple[str, float]
"""Variable and height in km of a field."""


def echo_and_missing(radar: npt.NDArray[np.floating], variables: int) -> tuple[Counts, Counts]:
    """Count pixels of echo, and those of them without a value.

    Args:
        radar: (…, v, z, y, x), zh first; NaN where there is no echo or no value.
        variables: Number of variables to count, from the first on.

    Returns:
        (…, z) and (…, variables, z).
    """
    has_value = np.isfinite(radar[..., :variables, :, :, :])
    echo = has_value[..., :1, :, :, :]
    return echo[..., 0, :, :, :].sum((-2, -1)), (echo & ~has_value).sum((-2, -1))


def check_values(
    radar: npt.NDArray[np.floating], variables: Sequence[str], heights_km: Sequence[float], path: Path
) -> None:
    """Check that each variable of a volume has values at the echo of each level.

    Args:
        radar: (v, z, y, x), zh first; NaN where there is no echo or no value.
        variables: Names along v, as far as they are written.
        heights_km: Heights along z.
        path: File for the error message.

    Raises:
        BadInput: One has none at a level with enough echo.
    """
    frames_with_values(radar[None], variables, heights_km, path)


def frames_with_values(
    radar: npt.NDArray[np.floating], variables: Sequence[str], heights_km: Sequence[float], path: Path
) -> tuple[npt.NDArray[np.bool_], list[Place]]:
    """Return the frames in which each variable has values at the echo of each level, and what the others lack.

    Args:
        radar: (t, v, z, y, x), zh first; NaN where there is no echo or no value.
        variables: Names along v, as far as they are written.
        heights_km: Heights along z.
        path: File for the error message.

    Returns:
        (t,), and variable and height of the fields that a frame lacks.

    Raises:
        BadInput: A variable has no value at a level in any frame with enough echo.
    """
    echo, missing = echo_and_missing(radar, len(variables))
    is_judged = np.broadcast_to(echo[:, None] >= FEWEST_ECHOES, missing.shape)
    is_lacking = is_judged & (missing == echo[:, None])
    never = is_lacking.any(0) & (is_lacking | ~is_judged).all(0)
    if never.any():
        raise refusal(_places(never, variables, heights_km), variables, heights_km, path)
    return ~is_lacking.any((1, 2)), _places(is_lacking.any(0), variables, heights_km)


def _places(fields: npt.NDArray[np.bool_], variables: Sequence[str], heights_km: Sequence[float]) -> list[Place]:
    return [(variables[v], heights_km[z]) for v, z in np.argwhere(fields).tolist()]


def refusal(
    lacking: Sequence[Place], variables: Sequence[str], heights_km: Sequence[float], path: Path, frames: str = ""
) -> BadInput:
    """Return the error on fields without values, with the options that leave them out.

    Args:
        lacking: Variable and height of the fields.
        variables: All variables.
        heights_km: All heights.
        path: File for the message.
        frames: In which frames, if not in all.
    """
    names, heights = {name for name, _ in lacking}, {height for _, height in lacking}
    fewer = f"--variables {','.join(name for name in variables if name not in names)}"
    lower = f"--heights {','.join(f'{height:g}' for height in heights_km if height not in heights)}"
    fix = f"leave it out: {fewer}" + (f", or choose other heights: {lower}" if len(heights) < len(heights_km) else "")
    return BadInput(f"no {listed(lacking)} where zh has echo{frames}", path, fix)


def listed(lacking: Sequence[Place]) -> str:
    """Return fields as text, such as `ZDR at 1 and 3 km`."""
    by_name: dict[str, list[str]] = {}
    for name, height in lacking:
        by_name.setdefault(name.upper(), []).append(f"{height:g}")
    return ", ".join(f"{name} at {' and '.join(heights)} km" for name, heights in by_name.items())


def missing_note(
    radar: npt.NDArray[np.floating], variables: Sequence[str], heights_km: Sequence[float]
) -> dict[str, Any]:
    """Return what the event's note says of missing values; empty for events of zh alone.

    Args:
        radar: (t, v, z, y, x) as written but for NaN where there is no echo or no value.
        variables: Names along v, as far as they are written.
        heights_km: Heights along z.
    """
    if len(variables) < 2:
        return {}
    echo, missing = (counts.sum(0) for counts in echo_and_missing(radar, len(variables)))
    names = [f"{height:g}" for height in heights_km]
    shares = {
        variable: {name: round(float(n / e), 4) for name, n, e in zip(names, row, echo, strict=True) if e}
        for variable, row in zip(variables[1:], missing[1:], strict=True)
    }
    return {NOTE: shares, ECHO_NOTE: dict(zip(names, echo.tolist(), strict=True))}


def counted(note: Mapping[str, Any]) -> dict[tuple[str, str], tuple[float, int]]:
    """Return share of the echo without a value, and pixels of echo, by variable and height; without what is damaged."""
    shares, pixels = note.get(NOTE), note.get(ECHO_NOTE)
    if not isinstance(shares, dict) or not isinstance(pixels, dict):
        return {}
    return {
        (variable, height): (float(share), int(pixels[height]))
        for variable, by_height in shares.items()
        if isinstance(by_height, dict)
        for height, share in by_height.items()
        if isinstance(share, int | float) and isinstance(pixels.get(height), int) and pixels[height] > 0
    }


def total_missing(notes: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the share of echo pixels without a value, from the notes of events.

    Returns:
        By variable, then for `all` heights and by height in km; only of heights with echo.
    """
    missing, echo = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for note in notes:
        for (variable, height), (share, pixels) in counted(note).items():
            for key in ("all", height):
                missing[variable, key] += round(share * pixels)
                echo[variable, key] += pixels
    found: dict[str, dict[str, float]] = {}
    for (variable, height), pixels in echo.items():
        found.setdefault(variable, {})[height] = round(missing[variable, height] / pixels, 4)
    return found
