"""Ground distances of grids on a map projection, whose metres are not those on the Earth (Snyder 1987, chapter 4)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.axes import Axes, Dims, lines_km, positions
from polarcast.data.ingest.grids.geometry import Geometry, LocalSpacing, Real
from polarcast.data.ingest.grids.positions import Positions, ProjectedPositions, StoredPositions, stored_positions

AS_ON_THE_MAP = 0.01
"""Largest relative difference of map and ground distance that leaves a grid as it is."""
VARYING = 0.05
"""Relative variation of the ground distance within a grid from which on every tile has its own."""
MOST_TILT_DEG = 20.0
_LEAST_FACTOR, _MOST_FACTOR = 0.2, 5.0
"""Scale factors beyond are no projection, but wrong units. Mercator has 5 at 78 degrees of latitude."""
_POLAR_DEG = 85.0
_SAMPLES, _DEGREE, _LATTICE = 33, 4, 9
_MISFIT = 0.02
_EQUATOR_KM, _FLATTENING = 6378.137, 1 / 298.257223563
"""WGS84."""


@dataclass(frozen=True)
class GroundDistances:
    """A grid on the Earth.

    Attributes:
        spacing_km: Ground distance of rows and columns at the centre.
        local: Ground distances over the grid.
        tilt_deg: Angle between the direction of rising rows and the meridian at the centre, 0 to 90.
    """

    spacing_km: tuple[float, float]
    local: LocalSpacing = field(repr=False)
    tilt_deg: float

    @property
    def variation(self) -> float:
        """Relative difference of the longest and the shortest distance."""
        return max(np.ptp(values) / np.median(values) for values in self.local.arrays)


def ground_of(places: Positions, shape: tuple[int, int]) -> GroundDistances | None:
    """Measure a grid: fit polynomials to the Cartesian places of its pixels, and take their slopes.

    A fit over the whole grid averages the rounding of stored coordinates.

    Args:
        places: Places of the pixels; NaN where there are none.
        shape: Rows and columns.

    Returns:
        None if too few places are known, or if they are not those of a grid.
    """
    if min(shape) < 2 * _DEGREE:
        return None
    rows, columns = (np.unique(np.rint(np.linspace(0, n - 1, _SAMPLES))) for n in shape)
    r, c = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    points = _cartesian(*places.at(r, c))
    known = np.isfinite(points).all(axis=1)
    if known.mean() < 0.25:
        return None
    half = np.maximum((np.array(shape) - 1) / 2, 1)
    u, v = r / half[0] - 1, c / half[1] - 1
    terms = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
    matrix = np.stack([u**i * v**j for i, j in terms], axis=1)[known]
    solution = np.linalg.lstsq(matrix, points[known], rcond=None)[0]
    misfit = np.abs(matrix @ solution - points[known]).max()
    if not misfit <= _MISFIT * np.ptp(points[known], axis=0).max():
        return None
    line = np.linspace(-1, 1, _LATTICE)
    uu, vv = np.meshgrid(line, line, indexing="ij")
    down, right = (slopes / h for slopes, h in zip(_slopes(solution, terms, uu, vv), half, strict=True))
    local = LocalSpacing.of(np.linalg.norm(down, axis=-1), np.linalg.norm(right, axis=-1))
    middle = _LATTICE // 2
    return GroundDistances(local.at(0.5, 0.5), local, _tilt(solution[terms.index((0, 0))], down[middle, middle]))


def on_the_ground(
    geometry: Geometry, note: dict[str, Any], found: GroundDistances | None, path: Path
) -> tuple[Geometry, dict[str, Any]]:
    """Return a grid with ground distances, and its note.

    A grid in degrees, or one whose distances are those on the ground within `AS_ON_THE_MAP`, stays as it is.

    Raises:
        BadInput: The rows do not run north, or the places are not those of pixels of this size.
    """
    if found is None or geometry.corner is not None:
        return geometry, note
    if found.tilt_deg > MOST_TILT_DEG:
        raise BadInput(
            f"the rows run {found.tilt_deg:.0f} degrees off north", path, "regrid the data so that rows run north"
        )
    factors = [s / g for s, g in zip(geometry.spacing, found.spacing_km, strict=True)]
    if not all(_LEAST_FACTOR <= f <= _MOST_FACTOR for f in factors):
        by_axes, on_earth = geometry.spacing[1], found.spacing_km[1]
        what = f"pixels of {by_axes:.3g} km by the axes, {on_earth:.3g} km by latitude and longitude"
        raise BadInput(what, path, "correct the units of the axes, or give --spacing-km KM")
    varies = found.variation > VARYING
    if max(abs(f - 1) for f in factors) <= AS_ON_THE_MAP and not varies:
        return geometry, note
    changed = Geometry.plane(geometry.shape, *found.spacing_km, geometry.south_first)
    if varies:
        changed = replace(changed, local=found.local)
    is_conformal = abs(factors[0] / factors[1] - 1) <= AS_ON_THE_MAP
    shown = f"{sum(factors) / 2:.3g}" if is_conformal else " × ".join(f"{f:.3g}" for f in factors)
    where = f"of each tile (it varies by {100 * found.variation:.0f}%)" if varies else "of the grid"
    text = f"ground distance at the centre {where}; scale factor of the map {shown}"
    return changed, {**note, "spacing": [round(s, 6) for s in changed.spacing], "ground": text}


def axes_on_the_ground(content: Any, array: Any, dims: Dims, axes: Axes, spacing_km: float | None, path: Path) -> Axes:
    """Return the axes of a variable of an xarray dataset with ground distances; see `on_the_ground`.

    The places are the latitudes and longitudes of the pixels, else those by the grid mapping. A given spacing stays.
    """
    if axes.geometry.corner is not None:
        return axes
    stored = positions(content, dims, path)
    if stored is not None:
        flips = (
            slice(None, None, -1 if axes.geometry.south_first else 1),
            slice(None, None, -1 if axes.from_east else 1),
        )
        places: Positions | None = StoredPositions(*(values[flips] for values in stored))
    else:
        places = _mapped(content, array, dims, axes, path)
    found = ground_of(places, axes.geometry.shape) if places is not None else None
    if spacing_km and found is not None:
        found = replace(
            found, spacing_km=axes.geometry.spacing, local=LocalSpacing.of(np.ones((2, 2)), np.ones((2, 2)))
        )
    geometry, note = on_the_ground(axes.geometry, axes.note, found, path)
    return replace(axes, geometry=geometry, note=note)


def projection_of(content: Any, array: Any) -> str:
    """Return the projection of a variable by its grid mapping for PROJ (CF 1.11, section 5.6); empty if none."""
    named = str(array.attrs.get("grid_mapping", array.encoding.get("grid_mapping", ""))).split(":")[0].strip()
    mappings = [named] if named in content.variables else []
    mappings += [str(n) for n, v in content.variables.items() if "grid_mapping_name" in v.attrs]
    for name in mappings:
        try:
            import pyproj

            crs = pyproj.CRS.from_cf(_plain(content.variables[name].attrs))
        except (ImportError, RuntimeError, ValueError, KeyError, TypeError):
            continue
        return str(crs.to_wkt()) if crs.is_projected else ""
    return ""


def _plain(attributes: Any) -> dict[str, Any]:
    """Return attributes as Python numbers, lists and text, which `pyproj.CRS.from_cf` reads."""
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in attributes.items()}


def places_of_pixels(content: Any, array: Any, dims: Dims, axes: Axes, path: Path) -> Positions | None:
    """Return the places of a variable's pixels: latitudes and longitudes of the file, else by its grid mapping.

    Returns:
        None if they are not known, or on a grid in degrees, whose corner and spacing say the same. Also None if they
        run against the rows and columns that were chosen for the fields.
    """
    stored = stored_positions(content, dims, axes.geometry, axes.from_east, path)
    if stored is not None or axes.geometry.corner is not None or positions(content, dims, path) is not None:
        return stored
    found = _mapped(content, array, dims, axes, path)
    return found if found is not None and min(found.spacing) > 0 else None


def _mapped(content: Any, array: Any, dims: Dims, axes: Axes, path: Path) -> ProjectedPositions | None:
    """Return places by the grid mapping; spacings are below 0 where the axes run against the chosen directions."""
    lines = lines_km(content, dims, path)
    projection = projection_of(content, array) if lines is not None else ""
    if lines is None or not projection:
        return None
    (top, dy), (left, dx) = lines
    rows, columns = axes.geometry.shape
    if axes.geometry.south_first:
        top, dy = top + (rows - 1) * dy, -dy
    if axes.from_east:
        left, dx = left + (columns - 1) * dx, -dx
    return ProjectedPositions(projection, 1000 * (left - dx / 2), 1000 * (top - dy / 2), (-1000 * dy, 1000 * dx))


def _cartesian(latitude: Real, longitude: Real) -> Real:
    """Return places on the ellipsoid in km, (n, 3)."""
    latitude, longitude = (np.where(np.isfinite(a), np.deg2rad(a), np.nan) for a in (latitude, longitude))
    square = _FLATTENING * (2 - _FLATTENING)
    normal = _EQUATOR_KM / np.sqrt(1 - square * np.sin(latitude) ** 2)
    across = normal * np.cos(latitude)
    return np.stack(
        [across * np.cos(longitude), across * np.sin(longitude), normal * (1 - square) * np.sin(latitude)], axis=-1
    )


def _slopes(solution: Real, terms: list[tuple[int, int]], u: Real, v: Real) -> tuple[Real, Real]:
    """Return the slopes of the fit by u and v, (..., 3) each."""
    down = np.zeros((*u.shape, 3))
    right = np.zeros((*u.shape, 3))
    for (i, j), factors in zip(terms, solution, strict=True):
        down += (i * u ** max(i - 1, 0) * v**j)[..., None] * factors
        right += (j * u**i * v ** max(j - 1, 0))[..., None] * factors
    return down, right


def _tilt(centre: npt.NDArray[np.float64], down: npt.NDArray[np.float64]) -> float:
    """Return the angle of a direction and the meridian in degrees, 0 to 90; 0 near a pole, where it means nothing."""
    up = centre / np.linalg.norm(centre)
    east = np.array([-up[1], up[0], 0.0])
    if abs(up[2]) > np.sin(np.deg2rad(_POLAR_DEG)) or not np.linalg.norm(down):
        return 0.0
    east /= np.linalg.norm(east)
    return float(np.rad2deg(np.arctan2(abs(down @ east), abs(down @ np.cross(up, east)))))
