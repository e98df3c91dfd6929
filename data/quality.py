"""Quality of an event: coverage, echo, bias and noise of its polarimetric variables, motion."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from polarcast.data.explore.scales import motion

Field = npt.NDArray[np.float32]
Quality = dict[str, float | None]

LIGHT_RAIN_DBZ = (20.0, 22.0)
LIGHT_RAIN_ZDR_DB = 0.2
"""Intrinsic ZDR of light rain (Bechini et al. 2008, J. Atmos. Oceanic Technol. 25, 1819–1830, § 4)."""
WEAK_DBZ = (10.0, 25.0)
STRONG_DBZ = 35.0
_FEWEST_PIXELS = 200
_MAD_TO_STD = 1.4826


def summarize_event(
    radar: Field,
    variables: Sequence[str],
    *,
    covered: Field | None = None,
    step_minutes: float = 6.0,
    spacing_km: float = 1.0,
) -> Quality:
    """Compute the quality of one event; quantities that cannot be estimated are None.

    Args:
        radar: (t, v, z, y, x) in dBZ, dB, deg/km, fill 0; only the lowest level is used.
        variables: Names along v, including zh.
        covered: (z, y, x) share of the frames in which each pixel was observed, if known.
        step_minutes: Time between frames in minutes.
        spacing_km: Pixel spacing in km.

    Returns:
        frames; coverage, echo_share and strong_share as shares of all pixels; zdr_bias_db and kdp_noise_deg_per_km,
        each with its number of pixels; motion_kmh; motion_towards_deg in degrees clockwise from north.
    """
    fields = {name: radar[:, i, 0] for i, name in enumerate(variables)}
    zh = fields["zh"]
    bias, light = zdr_bias(zh, fields["zdr"]) if "zdr" in fields else (None, 0)
    noise, weak = kdp_noise(zh, fields["kdp"]) if "kdp" in fields else (None, 0)
    speed, direction = motion_of(zh, step_minutes, spacing_km)
    return {
        "frames": len(zh),
        "coverage": None if covered is None else float(covered[0].mean()),
        "echo_share": float((zh != 0).mean()),
        "strong_share": float((zh >= STRONG_DBZ).mean()),
        "zdr_bias_db": bias,
        "zdr_bias_pixels": light,
        "kdp_noise_deg_per_km": noise,
        "kdp_noise_pixels": weak,
        "motion_kmh": speed,
        "motion_towards_deg": direction,
    }


def zdr_bias(zh: Field, zdr: Field) -> tuple[float | None, int]:
    """Median ZDR of light rain minus its intrinsic ZDR, in dB (None for too few pixels), and the pixel count."""
    chosen = zdr[(zh >= LIGHT_RAIN_DBZ[0]) & (zh < LIGHT_RAIN_DBZ[1]) & (zdr != 0)]
    return (float(np.median(chosen)) - LIGHT_RAIN_ZDR_DB if chosen.size >= _FEWEST_PIXELS else None), chosen.size


def kdp_noise(zh: Field, kdp: Field) -> tuple[float | None, int]:
    """Robust standard deviation of KDP in echo too weak to have any, in deg/km, and the pixel count."""
    chosen = kdp[(zh >= WEAK_DBZ[0]) & (zh < WEAK_DBZ[1]) & (kdp != 0)]
    if chosen.size < _FEWEST_PIXELS:
        return None, chosen.size
    return float(_MAD_TO_STD * np.median(np.abs(chosen - np.median(chosen)))), chosen.size


def motion_of(zh: Field, step_minutes: float, spacing_km: float) -> tuple[float | None, float | None]:
    """Mean motion of the echo (t, y, x), row 0 north: speed in km/h, and heading in degrees clockwise from north."""
    if len(zh) < 2 or (zh != 0).sum() < _FEWEST_PIXELS:
        return None, None
    down, right = motion(zh)
    speed = float(np.hypot(down, right)) * spacing_km * 60 / step_minutes
    return speed, float(np.rad2deg(np.arctan2(right, -down)) % 360)
