"""Tiles of 1 km pixels cut out of, or interpolated from, the fields of a gridded sequence.

In the fields here NaN is a pixel that was not seen, and −inf reflectivity one without echo: a power of zero.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from polarcast.data.ingest.event import Field
from polarcast.data.ingest.grids.geometry import Geometry, Real

NO_ECHO = np.float32(-np.inf)
COARSEN_BELOW_KM = 1 / 1.5
"""Finer pixels are averaged, lest most of them go unread."""
_HALF = 0.5 - 1e-6


@dataclass(frozen=True)
class Footprint:
    """Where the pixels of one tile lie on the grid of a source.

    Attributes:
        rows, columns: The window of the source that is needed, counted from north and west.
        row_places, column_places: (y, x) of the tile with its margin, in pixels of the window.
        block: Rows and columns of the source that are averaged beforehand; (1, 1) for none.
        is_cut: Whether the pixels are the source's own.
    """

    rows: slice
    columns: slice
    row_places: Real
    column_places: Real
    block: tuple[int, int] = (1, 1)
    is_cut: bool = False


def footprint(geometry: Geometry, south: float, east: float, size: int, margin: int = 0) -> Footprint:
    """The footprint of a tile.

    Args:
        geometry: Of the source.
        south, east: The tile's north-west corner, see `Geometry.tiles`.
        size: Pixels of 1 km a side.
        margin: Pixels around it that are wanted too; they may lie outside of the source.
    """
    row_places, column_places = geometry.places(south, east, size, margin)
    fy, fx = (max(1, round(1 / s)) if s < COARSEN_BELOW_KM else 1 for s in geometry.spacing_km)
    rows = _window(row_places, geometry.shape[0], fy)
    columns = _window(column_places, geometry.shape[1], fx)
    return Footprint(
        rows, columns, row_places - rows.start, column_places - columns.start, (fy, fx), geometry.is_archive_grid
    )


def lay_on_tile(values: Field, place: Footprint, *, in_db: bool) -> Field:
    """A tile with its margin from a window (y, x) of the source, in the same units; NaN where not seen or outside.

    Pixels of the source's own size are taken bit for bit. Others are interpolated bilinearly over the pixels that were
    seen, reflectivity over those with echo: lest storms grow a rim of weak echo. At least half of the weight must have
    been seen, and at least half of that have echo. Rain is interpolated with its zeros.

    Args:
        values: (y, x) in dBZ (−inf: no echo) or mm/h; NaN where not seen.
        place: The tile's footprint, of which `values` is the window.
        in_db: Whether these are logarithms, and averages to be taken of the powers.
    """
    if place.is_cut:
        return _cut(values, round(float(place.row_places[0, 0])), round(float(place.column_places[0, 0])), place)
    fy, fx = place.block
    rows, columns = (place.row_places + 0.5) / fy - 0.5, (place.column_places + 0.5) / fx - 0.5
    return _interpolated(values if fy == fx == 1 else coarsened(values, (fy, fx), in_db=in_db), rows, columns)


def coarsened(values: Field, block: tuple[int, int], *, in_db: bool) -> Field:
    """Means over blocks of pixels (y, x), of powers if `in_db`; NaN where less than half of a block was seen."""
    (fy, fx), (height, width) = block, values.shape
    y, x = height // fy, width // fx
    blocks = values[: y * fy, : x * fx].reshape(y, fy, x, fx).astype(np.float64)
    linear = 10 ** (blocks / 10) if in_db else blocks
    seen = ~np.isnan(linear)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, linear, 0).sum((1, 3)) / seen.sum((1, 3))
        mean = 10 * np.log10(mean) if in_db else mean
    return np.where(seen.mean((1, 3)) >= _HALF, mean, np.nan).astype(np.float32)


def nearest_pixels(geometry: Geometry, south: float, east: float, size: int) -> npt.NDArray[np.int64]:
    """(size · size,) numbers of the source's pixels nearest to those of a tile, along its rows from the north."""
    rows, columns = geometry.places(south, east, size, 0)
    row = np.clip(np.rint(rows), 0, geometry.shape[0] - 1).astype(np.int64)
    column = np.clip(np.rint(columns), 0, geometry.shape[1] - 1).astype(np.int64)
    return (row * geometry.shape[1] + column).ravel()


def _window(places: Real, length: int, block: int) -> slice:
    """The pixels needed for these places as far as there are any, and some more for whole blocks."""
    first, stop = int(np.floor(places.min())) - block, int(np.ceil(places.max())) + 1 + block
    first = min(max(0, first), length - 1)
    # Blocks begin at multiples, so that every tile of a source averages the same pixels.
    first -= first % block
    return slice(first, max(first + 1, min(length, stop)))


def _cut(values: Field, row: int, column: int, place: Footprint) -> Field:
    """The part from (row, column) on, bit for bit; NaN outside."""
    out: Field = np.full(place.row_places.shape, np.nan, np.float32)
    inside = values[max(0, row) : row + out.shape[0], max(0, column) : column + out.shape[1]]
    top, left = max(0, -row), max(0, -column)
    out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return out


def _interpolated(values: Field, rows: Real, columns: Real) -> Field:
    """Bilinear values at places (fractions of pixels); see `lay_on_tile`."""
    seen, echo = ~np.isnan(values), np.isfinite(values)
    is_inside = _is_within(rows, values.shape[0]) & _is_within(columns, values.shape[1])
    places = np.stack([rows, columns])
    total, of_echo, of_seen = (
        map_coordinates(field.astype(np.float64), places, order=1, mode="nearest")
        for field in (np.where(echo, values, 0), echo, seen)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where((of_echo > 0) & (of_echo >= _HALF * of_seen), total / of_echo, NO_ECHO)
    return np.where(is_inside & (of_seen >= _HALF), found, np.nan).astype(np.float32)


def _is_within(places: Real, length: int) -> npt.NDArray[np.bool_]:
    """Up to the outer edges of the first and last pixel, with a thousandth for rounding."""
    return (places >= -0.501) & (places <= length - 0.499)
