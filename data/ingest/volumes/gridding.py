"""Grid the sweeps of a volume to levels above the radar, with north up and the radar at the centre."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.ranges import PIXELS, SPACING_KM, check_height, check_range
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library, to_pyart
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep, Volume

_ECHO, _LINEAR = "echo", "linear_reflectivity"
METHOD = "grid_from_radars: Barnes2 weights, radius of influence growing with the beam"
_LEAST_RADIUS_M = 1000.0
_DISTANCE_FACTORS = (0.45, 1.0, 1.0)
"""Distance weights for z, y, x. A reduced height weight avoids rings without data between the upper beams at 7 km:
coverage within 105 km rises from 87 to 96%, and storms at 1 and 3 km keep their areas."""


@dataclass(frozen=True)
class Grid:
    """Target grid.

    Attributes:
        size: Pixels along each side; pixel (size // 2, size // 2) is above the radar, row 0 is the northernmost.
        spacing_km: Pixel spacing.
        heights_km: Heights of the levels above the radar.
    """

    size: int = 256
    spacing_km: float = 1.0
    heights_km: tuple[float, ...] = (1.0, 3.0, 7.0)

    def __post_init__(self) -> None:
        check_range("size", self.size, *PIXELS)
        check_range("spacing_km", self.spacing_km, *SPACING_KM)
        if not self.heights_km or list(self.heights_km) != sorted(set(self.heights_km)):
            raise BadInput(f"heights {self.heights_km}", "--heights", "give ascending heights, such as 1,3,7")
        for height in self.heights_km:
            check_height(height)

    def limits_m(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return ((south, north), (west, east)) centres of the outermost pixels, in metres from the radar."""
        step, half = 1000 * self.spacing_km, self.size // 2
        return (-(self.size - 1 - half) * step, half * step), (-half * step, (self.size - 1 - half) * step)


@dataclass(frozen=True)
class GriddedVolume:
    """One gridded frame.

    Attributes:
        time: Time of the volume's first ray, UTC.
        radar: (v, z, y, x) in dBZ, dB, deg/km; NaN where there is no echo or no data.
        covered: (z, y, x), whether the pixel is within the influence of a gate that was observed.
        variables: Names along v.
        note: Provenance.
    """

    time: np.datetime64
    radar: Real
    covered: Mask
    variables: tuple[str, ...]
    note: dict[str, Any] = field(default_factory=dict)


def to_grid(volume: Volume, echoes: list[Mask], variables: tuple[str, ...], grid: Grid) -> tuple[Real, Mask]:
    """Grid the echoes of a volume with Py-ART.

    Reflectivity is averaged as power. A pixel has echo if at least half of the weight of the gates around it has echo.
    An average over echoes alone would enlarge every storm by the radius of influence.

    Args:
        volume: Volume whose sweeps have the variables.
        echoes: Masks (a, r) of the gates with echo, by sweep.
        variables: Variables to grid, zh first.
        grid: Target grid.

    Returns:
        (v, z, y, x) with NaN where there is no echo, and the coverage (z, y, x).
    """
    pairs = zip(volume.sweeps, echoes, strict=True)
    radars = tuple(to_pyart(s, _gate_fields(s, e, variables), volume.site) for s, e in pairs)
    levels = [_level(radars, variables, grid, 1000 * z) for z in grid.heights_km]
    return np.stack([level for level, _ in levels], 1), np.stack([covered for _, covered in levels])


def _gate_fields(sweep: Sweep, echo: Mask, variables: tuple[str, ...]) -> dict[str, Real]:
    fields = {v: np.where(echo, sweep.fields[v], np.nan).astype(np.float32) for v in variables if v != "zh"}
    power = np.where(echo, 10 ** (sweep.fields["zh"] / 10), np.nan).astype(np.float32)
    # Gates that were not observed are no evidence: neither for echo nor against it.
    votes = echo if sweep.unseen is None else np.where(sweep.unseen & ~echo, np.nan, echo)
    return {_ECHO: votes.astype(np.float32), _LINEAR: power, **fields}


def _level(radars: tuple[Any, ...], variables: tuple[str, ...], grid: Grid, height_m: float) -> tuple[Real, Mask]:
    """Grid one level; return its variables (v, y, x) and the coverage (y, x)."""
    wanted = [_ECHO, _LINEAR, *(v for v in variables if v != "zh")]
    south_north, west_east = grid.limits_m()
    gridded = pyart_library().map.grid_from_radars(
        radars,
        grid_shape=(1, grid.size, grid.size),
        grid_limits=((height_m, height_m), south_north, west_east),
        fields=wanted,
        gridding_algo="map_gates_to_grid",
        weighting_function="Barnes2",
        roi_func="dist_beam",
        min_radius=max(_LEAST_RADIUS_M, 1000 * grid.spacing_km),
        dist_factor=_DISTANCE_FACTORS,
    )
    values = {name: _north_up(gridded.fields[name]["data"]) for name in wanted}
    echo = np.nan_to_num(values[_ECHO]) >= 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        values["zh"] = 10 * np.log10(values[_LINEAR])
    return np.stack([np.where(echo, values[v], np.nan) for v in variables]), np.isfinite(values[_ECHO])


def _north_up(level: Any) -> npt.NDArray[np.float32]:
    """Convert Py-ART's (1, y, x), south first, to (y, x), north first, with NaN where masked."""
    return np.ma.filled(level[0].astype(np.float32), np.nan)[::-1]
