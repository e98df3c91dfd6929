"""Gridded sequences → tiles of the archive's size, at its pixels and its step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Field, IngestedEvent
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import GriddedSource, open_source
from polarcast.data.ingest.grids.tiles import NO_ECHO, Footprint, footprint, lay_on_tile, nearest_pixels
from polarcast.data.ingest.resample import seconds_of_steps, to_regular_steps

MARGIN = 32
"""Pixels read around a tile: what moves in over its edge while frames are interpolated has to come from somewhere."""
LEAST_RAIN = 0.05
"""Rain below it, in mm/h, counts as none where reflectivity is derived from it: 2 dBZ."""
_ECHO_DBZ = 20.0


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

    Every frame is looked at once, a tile's pixels being the nearest ones of the source.

    Raises:
        BadInput: the grid is smaller than one tile, or the file is damaged.
    """
    corners = _corners(source, settings)
    pixels = [nearest_pixels(source.geometry, *corner, settings.tile) for corner in corners]
    pieces, dropped = [], Counter[str]()
    for start, stop in _stretches(source, settings):
        if _steps(source, start, stop, settings) < settings.min_frames:
            dropped[f"stretches of time shorter than {settings.min_frames} frames"] += 1
            continue
        for corner, reason in zip(corners, _judged(source, range(start, stop), pixels, settings), strict=True):
            if reason:
                dropped[reason] += 1
            else:
                pieces.append(Piece(source.path, start, stop, *corner))
    return pieces, dropped


def read_piece(piece: Piece, settings: GridSettings) -> IngestedEvent:
    """Read one event: its tile on 1 km pixels, at the regular step, as reflectivity (and rain where the source has it).

    Raises:
        BadInput: see `grid_source.open_source`.
    """
    source = open_source(piece.path, settings)
    frames = range(piece.start, piece.stop)
    place = footprint(source.geometry, piece.south, piece.east, settings.tile, MARGIN)
    values = _tile(source, frames, place, settings)
    rain = values if source.has_rain else None
    zh = _reflectivity(values, source, settings)
    times = source.times[piece.start : piece.stop]
    regular = to_regular_steps(times, _echo_only(zh)[:, None, None], rain, step_minutes=settings.step_minutes)
    inner = slice(MARGIN, MARGIN + settings.tile)
    rain = None if regular.rain is None else regular.rain[:, inner, inner]
    radar = regular.radar[..., inner, inner]
    if rain is not None:
        # Once more, so that the relation holds where frames were interpolated, too.
        radar = _echo_only(_reflectivity(rain, source, settings))[:, None, None]
    return IngestedEvent(
        times=regular.times,
        radar=np.nan_to_num(radar),
        rain=None if rain is None else np.nan_to_num(rain),
        covered=(~np.isnan(values[:, inner, inner])).mean(0, dtype=np.float32)[None],
        variables=("zh",),
        heights_km=(settings.height_km,),
        note={**_story(source, piece, place, settings), "time": regular.note},
    )


def derivation(settings: GridSettings) -> str:
    """How reflectivity is derived from rain, in words."""
    a, b = settings.zr
    return f"Z = {a:g} R^{b:g} of the rain rate"


def _corners(source: GriddedSource, settings: GridSettings) -> list[tuple[float, float]]:
    corners = source.geometry.tiles(settings.tile)
    if not corners:
        height, width = (n * s for n, s in zip(source.geometry.shape, source.geometry.spacing_km, strict=True))
        raise BadInput(
            f"the grid is {width:.0f} by {height:.0f} km, smaller than a tile of {settings.tile} km",
            source.path,
            "give a smaller --size",
        )
    return corners


def _stretches(source: GriddedSource, settings: GridSettings) -> list[tuple[int, int]]:
    """Frames [start, stop) without a gap longer than allowed."""
    gaps = np.diff(source.times) / np.timedelta64(1, "s") > 60 * settings.max_gap_minutes
    edges = [0, *(np.flatnonzero(gaps) + 1).tolist(), len(source.times)]
    return list(pairwise(edges))


def _steps(source: GriddedSource, start: int, stop: int, settings: GridSettings) -> int:
    """Frames the stretch will have at the regular step."""
    return len(seconds_of_steps(source.times[start:stop], settings.step_minutes))


def _judged(
    source: GriddedSource, frames: Sequence[int], pixels: list[npt.NDArray[np.int64]], settings: GridSettings
) -> list[str]:
    """Why each tile is not worth an event; empty if it is."""
    seen, echo = np.zeros(len(pixels)), np.zeros(len(pixels), np.int64)
    everything = slice(0, source.geometry.shape[0]), slice(0, source.geometry.shape[1])
    for values in source.each(frames, *everything):
        is_seen, is_echo = ~np.isnan(values), _reflectivity(values, source, settings) >= _ECHO_DBZ
        seen += [is_seen.take(tile).mean() for tile in pixels]
        echo = np.maximum(echo, [is_echo.take(tile).sum() for tile in pixels])
    reasons = np.where(echo < settings.min_echo_pixels, _too_dry(settings), "")
    return np.where(seen / len(frames) < settings.min_coverage, _too_little_seen(settings), reasons).tolist()


def _too_little_seen(settings: GridSettings) -> str:
    return f"tiles with less than {100 * settings.min_coverage:.0f}% coverage"


def _too_dry(settings: GridSettings) -> str:
    return f"tiles with fewer than {settings.min_echo_pixels} pixels of {_ECHO_DBZ:g} dBZ"


def _tile(source: GriddedSource, frames: Sequence[int], place: Footprint, settings: GridSettings) -> Field:
    """A tile with its margin on 1 km pixels, (t, y, x) in mm/h or dBZ; see `tiles` for what is not seen or no echo."""
    in_db, out = not source.has_rain, np.empty((len(frames), *place.row_places.shape), np.float32)
    for number, values in enumerate(source.each(frames, place.rows, place.columns)):
        native = _floored(values, settings) if in_db else values
        tile = lay_on_tile(native, place, in_db=in_db)
        out[number] = _floored(tile, settings) if in_db else tile
    return out


def _reflectivity(values: Field, source: GriddedSource, settings: GridSettings) -> Field:
    """Of values in the source's quantity: −inf where there is no echo, NaN where nothing was seen."""
    if not source.has_rain:
        return _floored(values, settings)
    a, b = settings.zr
    with np.errstate(divide="ignore"):
        zh = 10 * np.log10(a * np.where(values < LEAST_RAIN, 0, values) ** b)
    return _floored(zh.astype(np.float32), settings)


def _floored(zh: Field, settings: GridSettings) -> Field:
    return np.where(zh < settings.min_dbz, NO_ECHO, zh)


def _echo_only(zh: Field) -> Field:
    """NaN for no echo, too."""
    return np.where(np.isfinite(zh), zh, np.float32(np.nan))


def _story(source: GriddedSource, piece: Piece, place: Footprint, settings: GridSettings) -> dict[str, Any]:
    """How the event came about."""
    steps = np.diff(source.times[piece.start : piece.stop]) / np.timedelta64(60, "s")
    how = "bilinear to 1 km over pixels with data, reflectivity in dBZ over those with echo"
    if place.block != (1, 1):
        how = f"means of {place.block[0]} by {place.block[1]} pixels ({'rain' if source.has_rain else 'power'}), {how}"
    return {
        "read": source.note,
        "tile": {"south_km": piece.south, "east_km": piece.east, "size_km": settings.tile},
        "pixels": {
            "source_spacing_km": [round(s, 4) for s in source.geometry.spacing_km],
            "resampled": "as stored" if place.is_cut else how,
        },
        "source_step_minutes": round(float(np.median(steps)), 3) if len(steps) else None,
        "min_dbz": settings.min_dbz,
        **({"derived": {"zh": derivation(settings)}} if source.has_rain else {}),
    }
