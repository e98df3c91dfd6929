"""Find the heights of levels, and interpolate between them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.cf_values import Real, decoded
from polarcast.data.ingest.event import Field
from polarcast.data.ingest.grids.tiles import NO_ECHO

_NAMES = frozenset(
    {"z", "height", "heights", "altitude", "alt", "level", "levels", "lev", "heightaboveground", "heightabovesea", "nz"}
)
_STANDARD = frozenset({"height", "altitude", "projection_z_coordinate", "height_above_mean_sea_level",
                       "height_above_reference_ellipsoid", "height_above_geopotential_datum"})  # fmt: skip
_KM = {"m": 0.001, "metre": 0.001, "meter": 0.001, "km": 1.0, "kilometre": 1.0, "kilometer": 1.0,
       "ft": 0.0003048, "feet": 0.0003048, "foot": 0.0003048}  # fmt: skip
_ABOVE = {
    "altitude": "above sea level", "height_above_mean_sea_level": "above sea level",
    "projection_z_coordinate": "above the origin of the grid, most often the radar", "height": "above the ground",
}  # fmt: skip
_AS_ONE_KM = 1e-6
_HALF = 0.5 - 1e-6


@dataclass(frozen=True)
class Between:
    """Two levels, and the height between them.

    Attributes:
        lower, upper: Positions along the axis of levels; equal if the height is that of a level.
        share: Position of the height from lower (0) to upper (1).
    """

    lower: int
    upper: int
    share: float = 0.0


def is_level_axis(content: Any, dim: str) -> bool:
    """Whether an axis counts heights."""
    attributes = content.variables[dim].attrs if dim in content.variables else {}
    standard = str(attributes.get("standard_name", "")).lower()
    is_vertical = str(attributes.get("axis", "")).upper() == "Z" or "positive" in attributes
    return is_vertical or standard in _STANDARD or dim.lower() in _NAMES


def levels_of(content: Any, dim: str, path: Path) -> tuple[Real, str]:
    """Return the heights of an axis in km, as stored, and above what they are.

    Raises:
        BadInput: The axis has no heights in m, km or ft.
    """
    if dim not in content.variables:
        raise BadInput(f"the axis {dim!r} has no heights", path, "write them with units of m, km or ft")
    axis = content.variables[dim]
    unit = str(axis.attrs.get("units", "")).strip().lower().removesuffix("s")
    if unit not in _KM:
        raise BadInput(f"{dim} is in units {shown(axis.attrs.get('units', ''))}", path, "write heights in m, km or ft")
    above = _ABOVE.get(str(axis.attrs.get("standard_name", "")).lower(), "the file does not say above what")
    return decoded(np.asarray(axis.values), axis.attrs) * _KM[unit], above


def levels_around(levels_km: Real, height_km: float, path: Path) -> Between:
    """Return the levels around a height.

    Raises:
        BadInput: The height is below the lowest level or above the highest.
    """
    order = np.argsort(levels_km)
    ascending = levels_km[order]
    if not ascending[0] - _AS_ONE_KM <= height_km <= ascending[-1] + _AS_ONE_KM:
        reach = f"{ascending[0]:g} to {ascending[-1]:g} km"
        raise BadInput(f"no data at {height_km:g} km: its levels are {reach}", path, "choose others: --heights 1,3")
    nearest = int(np.abs(ascending - height_km).argmin())
    if abs(ascending[nearest] - height_km) <= _AS_ONE_KM:
        return Between(int(order[nearest]), int(order[nearest]))
    above = int(np.searchsorted(ascending, height_km))
    low, high = ascending[above - 1], ascending[above]
    return Between(int(order[above - 1]), int(order[above]), float((height_km - low) / (high - low)))


def between_levels(lower: Field, upper: Field, share: float) -> Field:
    """Interpolate linearly in height over pixels with data, reflectivity in dBZ over those with echo.

    At least half of the weight must have data, and at least half of that must have echo.

    Args:
        lower: (y, x) of the lower level; −inf is no echo, NaN is no data.
        upper: Likewise of the upper level.
        share: Position of the height from lower (0) to upper (1).
    """
    fields, weights = np.stack([lower, upper]).astype(np.float64), np.array([1 - share, share])[:, None, None]
    has_data, has_echo = ~np.isnan(fields), np.isfinite(fields)
    total = (np.where(has_echo, fields, 0) * weights).sum(0)
    data_weight, echo_weight = (has_data * weights).sum(0), (has_echo * weights).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        is_echo = (echo_weight > 0) & (echo_weight >= _HALF * data_weight)
        out = np.where(is_echo, total / echo_weight, NO_ECHO)
    return np.where(data_weight >= _HALF, out, np.nan).astype(np.float32)
