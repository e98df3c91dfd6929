"""Cut or interpolate tiles of 1 km pixels from the fields of a gridded sequence.

In these fields NaN marks a pixel without data. A reflectivity of −inf, a power of zero, marks a pixel without echo.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from polarcast.data.ingest.event import Field
from polarcast.data.ingest.grids.geometry import Geometry, Real

NO_ECHO = np.float32(-np.inf)
COARSEN_BELOW_KM = 1 / 1.5
"""Spacing in km below which pixels are averaged, because interpolation would ignore most of them."""
_HALF = 0.5 - 1e-6


@dataclass(frozen=True)
class Footprint:
    """Position of a tile's pixels on the grid of a source.

    Attributes:
        rows, columns: Required window of the source, counted from north and west.
        row_places, column_places: (y, x) positions of the tile's pixels with its margin, in pixels of the window.
        block: Rows and columns of the source that are averaged first; (1, 1) for none.
        is_cut: Whether the tile's pixels are exactly those of the source.
    """

    rows: slice
    columns: slice
    row_places: Real
    column_places: Real
    block: tuple[int, int] = (1, 1)
    is_cut: bool = False


def footprint(geometry: Geometry, south: float, east: float, size: int, margin: int = 0) -> Footprint:
    """Return the footprint of a tile.

    Args:
        geometry: Geometry of the source.
        south, east: Offsets of the tile's north-west corner in km, see `Geometry.tiles`.
        size: Tile size in pixels of 1 km.
        margin: Pixels to add on each side; they may be outside the source.
    """
    row_places, column_places = geometry.places(south, east, size, margin)
    fy, fx = (max(1, round(1 / s)) if s < COARSEN_BELOW_KM else 1 for s in geometry.spacing_km)
    rows = _window(row_places, geometry.shape[0], fy)
    columns = _window(column_places, geometry.shape[1], fx)
    return Footprint(
        rows, columns, row_places - rows.start, column_places - columns.start, (fy, fx), geometry.is_archive_grid
    )


def lay_on_tile(values: Field, place: Footprint, *, in_db: bool) -> Field:
    """Return a tile with its margin from a window (y, x) of the source, in the same units.

    Pixels of 1 km are copied bit for bit. Others are interpolated bilinearly over pixels with data, reflectivity only
    over those with echo, so that storms do not grow a rim of weak echo. At least half of the weight must have data, and
    at least half of that weight must have echo. Rain is interpolated with its zeros.

    Args:
        values: (y, x) in dBZ (−inf: no echo) or mm/h; NaN where there are no data.
        place: Footprint of the tile; `values` is its window.
        in_db: Whether values are logarithmic; then powers are averaged.

    Returns:
        (y, x) in the units of `values`; NaN without data and outside the source.
    """
    if place.is_cut:
        return _cut(values, round(float(place.row_places[0, 0])), round(float(place.column_places[0, 0])), place)
    fy, fx = place.block
    rows, columns = (place.row_places + 0.5) / fy - 0.5, (place.column_places + 0.5) / fx - 0.5
    return _interpolated(values if fy == fx == 1 else coarsened(values, (fy, fx), in_db=in_db), rows, columns)


def coarsened(values: Field, block: tuple[int, int], *, in_db: bool) -> Field:
    """Average blocks of pixels (y, x), as powers if `in_db`; NaN where less than half of a block has data."""
    (fy, fx), (height, width) = block, values.shape
    y, x = height // fy, width // fx
    blocks = values[: y * fy, : x * fx].reshape(y, fy, x, fx).astype(np.float64)
    linear = 10 ** (blocks / 10) if in_db else blocks
    valid = ~np.isnan(linear)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(valid, linear, 0).sum((1, 3)) / valid.sum((1, 3))
        mean = 10 * np.log10(mean) if in_db else mean
    return np.where(valid.mean((1, 3)) >= _HALF, mean, np.nan).astype(np.float32)


def nearest_pixels(geometry: Geometry, south: float, east: float, size: int) -> npt.NDArray[np.int64]:
    """Return flat indices (size · size,) of the source pixels nearest to those of a tile, row by row from the north."""
    rows, columns = geometry.places(south, east, size, 0)
    row = np.clip(np.rint(rows), 0, geometry.shape[0] - 1).astype(np.int64)
    column = np.clip(np.rint(columns), 0, geometry.shape[1] - 1).astype(np.int64)
    return (row * geometry.shape[1] + column).ravel()


def _window(places: Real, length: int, block: int) -> slice:
    """Return the range of pixels needed for these positions, clipped to the grid and extended to whole blocks."""
    first, stop = int(np.floor(places.min())) - block, int(np.ceil(places.max())) + 1 + block
    first = min(max(0, first), length - 1)
    # Blocks start at multiples of their size, so that every tile of a source averages the same pixels.
    first -= first % block
    return slice(first, max(first + 1, min(length, stop)))


def _cut(values: Field, row: int, column: int, place: Footprint) -> Field:
    """Copy the tile that starts at (row, column) bit for bit; NaN outside the source."""
    out: Field = np.full(place.row_places.shape, np.nan, np.float32)
    inside = values[max(0, row) : row + out.shape[0], max(0, column) : column + out.shape[1]]
    top, left = max(0, -row), max(0, -column)
    out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return out


def _interpolated(values: Field, rows: Real, columns: Real) -> Field:
    """Interpolate bilinearly at fractional pixel positions; see `lay_on_tile`."""
    valid, echo = ~np.isnan(values), np.isfinite(values)
    is_inside = _is_within(rows, values.shape[0]) & _is_within(columns, values.shape[1])
    places = np.stack([rows, columns])
    total, echo_weight, valid_weight = (
        map_coordinates(field.astype(np.float64), places, order=1, mode="nearest")
        for field in (np.where(echo, values, 0), echo, valid)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        out = np.where((echo_weight > 0) & (echo_weight >= _HALF * valid_weight), total / echo_weight, NO_ECHO)
    return np.where(is_inside & (valid_weight >= _HALF), out, np.nan).astype(np.float32)


def _is_within(places: Real, length: int) -> npt.NDArray[np.bool_]:
    """Whether positions are within the outer edges of the first and last pixel, with a tolerance for rounding."""
    return (places >= -0.501) & (places <= length - 0.499)
