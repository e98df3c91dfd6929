"""Gridded sequences → tiles of the archive's size, at its pixels and its step."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Field, IngestedEvent
from polarcast.data.ingest.grid_settings import GridSettings
from polarcast.data.ingest.grid_source import GriddedSource, open_source
from polarcast.data.ingest.resample import to_regular_steps

MARGIN = 32
"""Pixels read around a tile: what moves in over its edge while frames are interpolated has to come from somewhere."""
_ECHO_DBZ = 20.0
_PLAN_FRAMES = 12
_FINEST = 1.5
_NO_ECHO_DBZ = -99.0
_LEAST_RAIN = 0.05
"""Rain below it, in mm/h, counts as none where reflectivity is derived from it: 2 dBZ."""


@dataclass(frozen=True)
class Piece:
    """One tile of one stretch of time: a future event.

    Attributes:
        path: The source.
        start, stop: Frames of the source.
        south, east: North-west corner, see `Geometry.tiles`.
    """

    path: Path
    start: int
    stop: int
    south: float
    east: float

    @property
    def identity(self) -> str:
        """The same for the same part of a file."""
        return f"{self.start}-{self.stop}/{self.south:.3f}/{self.east:.3f}"


def plan(source: GriddedSource, settings: GridSettings) -> tuple[list[Piece], Counter[str]]:
    """The events in a source, in order of time, then north to south and west to east; and what was dropped, by reason.

    Coverage and echo are judged by about a dozen frames of each stretch of time.

    Raises:
        BadInput: the grid is smaller than one tile.
    """
    tiles = source.geometry.tiles(settings.tile)
    if not tiles:
        height, width = (n * s for n, s in zip(source.geometry.shape, source.geometry.spacing_km, strict=True))
        raise BadInput(
            f"the grid is {width:.0f} by {height:.0f} km, smaller than a tile of {settings.tile} km",
            source.path,
            "give a smaller --size",
        )
    pieces, dropped = [], Counter[str]()
    for start, stop in _stretches(source, settings):
        if _steps(source, start, stop, settings) < settings.min_frames:
            dropped[f"stretches of time shorter than {settings.min_frames} frames"] += 1
            continue
        judged = np.unique(np.linspace(start, stop - 1, _PLAN_FRAMES).round().astype(int))
        for south, east in tiles:
            reason = _unfit(_tile(source, judged, south, east, settings.tile, 0), source, settings)
            if reason:
                dropped[reason] += 1
            else:
                pieces.append(Piece(source.path, start, stop, south, east))
    return pieces, dropped


def read_piece(piece: Piece, settings: GridSettings) -> IngestedEvent:
    """Read one event: its tile on 1 km pixels, at the regular step, as reflectivity (and rain where the source has it).

    Raises:
        BadInput: see `grid_source.open_source`.
    """
    source = open_source(piece.path, settings)
    frames = np.arange(piece.start, piece.stop)
    values = _tile(source, frames, piece.south, piece.east, settings.tile, MARGIN)
    rain = values if source.has_rain else None
    zh = _derived_zh(values, settings) if source.has_rain else values
    zh = np.where(zh >= settings.min_dbz, zh, np.nan).astype(np.float32)
    times = source.times[frames]
    regular = to_regular_steps(times, zh[:, None, None], rain, step_minutes=settings.step_minutes)
    inner = slice(MARGIN, MARGIN + settings.tile)
    return IngestedEvent(
        times=regular.times,
        radar=np.nan_to_num(regular.radar[..., inner, inner]),
        rain=None if regular.rain is None else np.nan_to_num(regular.rain[..., inner, inner]),
        covered=np.isfinite(values[:, inner, inner]).mean(0, dtype=np.float32)[None],
        variables=("zh",),
        heights_km=(settings.height_km,),
        note={**_story(source, piece, settings), "time": regular.note},
    )


def derivation(settings: GridSettings) -> str:
    """How reflectivity is derived from rain, in words."""
    a, b = settings.zr
    return f"Z = {a:g} R^{b:g} of the rain rate"


def _stretches(source: GriddedSource, settings: GridSettings) -> list[tuple[int, int]]:
    """Frames [start, stop) without a gap longer than allowed."""
    gaps = np.diff(source.times) / np.timedelta64(1, "s") > 60 * settings.max_gap_minutes
    edges = [0, *(np.flatnonzero(gaps) + 1).tolist(), len(source.times)]
    return list(pairwise(edges))


def _steps(source: GriddedSource, start: int, stop: int, settings: GridSettings) -> int:
    """Frames the stretch will have at the regular step."""
    minutes = (source.times[stop - 1] - source.times[start]) / np.timedelta64(60, "s")
    return int(minutes / settings.step_minutes + 1e-6) + 1


def _tile(
    source: GriddedSource, frames: npt.NDArray[np.int64], south: float, east: float, size: int, margin: int
) -> Field:
    """A tile with its margin on 1 km pixels, (t, size + 2 margin, …) in dBZ or mm/h; NaN where missing or outside."""
    rows, columns = source.geometry.places(south, east, size, margin)
    window = [_window(places, length) for places, length in zip((rows, columns), source.geometry.shape, strict=True)]
    part = source.read(frames.tolist(), *window)
    rows, columns = rows - window[0].start, columns - window[1].start
    if source.geometry.is_archive_grid:
        return _cut(part, round(float(rows[0, 0])), round(float(columns[0, 0])), size + 2 * margin)
    spacing = source.geometry.spacing_km
    factors = [max(1, round(1 / s)) if s < 1 / _FINEST else 1 for s in spacing]
    if factors != [1, 1]:
        part = _coarsened(part, factors, in_db=not source.has_rain)
        rows, columns = ((p + 0.5) / f - 0.5 for p, f in zip((rows, columns), factors, strict=True))
    if source.has_rain:
        return np.stack([_sampled(frame, rows, columns) for frame in part])
    return np.stack([_sampled_echo(frame, rows, columns, source.settings.min_dbz) for frame in part])


def _window(places: npt.NDArray[np.float64], length: int) -> slice:
    """The pixels of the source that are needed for these places, as far as it has them."""
    low, high = int(np.floor(places.min())) - 1, int(np.ceil(places.max())) + 2
    return slice(min(max(0, low), length - 1), max(1, min(length, high)))


def _cut(part: Field, row: int, column: int, size: int) -> Field:
    """The square from (row, column) on, bit for bit; NaN outside."""
    out = np.full((len(part), size, size), np.nan, np.float32)
    top, left = max(0, -row), max(0, -column)
    inside = part[:, max(0, row) : row + size, max(0, column) : column + size]
    out[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
    return out


def _coarsened(part: Field, factors: list[int], in_db: bool) -> Field:
    """Means of blocks of pixels; reflectivity as power. A block without any data is NaN."""
    fy, fx = factors
    y, x = part.shape[1] // fy * fy, part.shape[2] // fx * fx
    blocks = part[:, :y, :x].reshape(len(part), y // fy, fy, x // fx, fx)
    linear = 10 ** (blocks / 10) if in_db else blocks
    there = np.isfinite(linear)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, linear, 0).sum((2, 4)) / there.sum((2, 4))
        return np.asarray(10 * np.log10(mean) if in_db else mean, dtype=np.float32)


def _sampled(frame: Field, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Field:
    """Bilinear values over pixels that have one; NaN where these carry less than half of the weight."""
    there = np.isfinite(frame)
    places = np.stack([rows, columns])
    values = map_coordinates(np.where(there, frame, 0).astype(np.float64), places, order=1, mode="constant")
    weight = map_coordinates(there.astype(np.float64), places, order=1, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight >= 0.5, values / weight, np.nan).astype(np.float32)


def _sampled_echo(
    frame: Field, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], min_dbz: float
) -> Field:
    """Reflectivity interpolated over echoes alone, lest storms grow a rim; `_NO_ECHO_DBZ` where there is none."""
    echo = _sampled(np.where(frame >= min_dbz, frame, np.nan).astype(np.float32), rows, columns)
    seen = _sampled(np.where(np.isfinite(frame), 0, np.nan).astype(np.float32), rows, columns)
    return np.where(np.isfinite(echo), echo, seen + _NO_ECHO_DBZ).astype(np.float32)


def _derived_zh(rain: Field, settings: GridSettings) -> Field:
    a, b = settings.zr
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rain >= _LEAST_RAIN, 10 * np.log10(a * rain**b), np.nan).astype(np.float32)


def _unfit(values: Field, source: GriddedSource, settings: GridSettings) -> str:
    """Why a tile (t, y, x) is not worth an event; empty if it is."""
    if np.isfinite(values).mean() < settings.min_coverage:
        return f"tiles with less than {100 * settings.min_coverage:.0f}% coverage"
    zh = _derived_zh(values, settings) if source.has_rain else values
    if (zh >= _ECHO_DBZ).sum((1, 2)).max() < settings.min_echo_pixels:
        return f"tiles with fewer than {settings.min_echo_pixels} pixels of {_ECHO_DBZ:g} dBZ"
    return ""


def _story(source: GriddedSource, piece: Piece, settings: GridSettings) -> dict[str, Any]:
    """How the event came about."""
    step = (np.diff(source.times[piece.start : piece.stop]) / np.timedelta64(60, "s")).mean()
    space = "as stored" if source.geometry.is_archive_grid else "bilinear to 1 km over pixels with data"
    return {
        "read": source.note,
        "tile": {"south_km": piece.south, "east_km": piece.east, "size_km": settings.tile},
        "pixels": {"source_spacing_km": [round(s, 4) for s in source.geometry.spacing_km], "resampled": space},
        "source_step_minutes": round(float(step), 3),
        "min_dbz": settings.min_dbz,
        **({"derived": {"zh": derivation(settings)}} if source.has_rain else {}),
    }
