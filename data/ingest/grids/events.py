"""Convert gridded sequences to events: tiles on the archive's grid at its regular time step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.days import days_of
from polarcast.data.ingest.event import Field, IngestedEvent
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import GriddedSource, open_source
from polarcast.data.ingest.grids.tiles import NO_ECHO, Footprint, footprint, lay_on_tile, nearest_pixels
from polarcast.data.ingest.resample import seconds_of_steps, to_regular_steps

MARGIN = 32
"""Pixels read around a tile, so that interpolated frames have data for echo that moves in over the edge."""
LEAST_RAIN = 0.05
"""Rain rate in mm/h below which derived reflectivity is no echo; corresponds to 2 dBZ."""
_ECHO_DBZ = 20.0


@dataclass(frozen=True)
class Piece:
    """One tile over one period without gaps, at most a day; it becomes one event.

    Attributes:
        path: Source file.
        start, stop: Frame range in the source.
        south, east: Offsets of the north-west corner in km, see `Geometry.tiles`.
    """

    path: Path
    start: int
    stop: int
    south: float
    east: float

    @property
    def tile(self) -> str:
        """Identifier of the tile of the file."""
        return f"{self.south:.3f}/{self.east:.3f}"

    @property
    def identity(self) -> str:
        """Identifier that is stable for the same part of a file."""
        return f"{self.start}-{self.stop}/{self.tile}"


def plan(source: GriddedSource, settings: GridSettings) -> tuple[list[Piece], Counter[str]]:
    """Return the events of a source, and the number of dropped parts by reason.

    Events are ordered by time, then north to south and west to east. Every frame is read once; the selection uses the
    source pixels nearest to those of each tile.

    Raises:
        BadInput: The grid is smaller than one tile, or the file is damaged.
    """
    corners = _corners(source, settings)
    pixels = [nearest_pixels(source.geometry, *corner, settings.tile) for corner in corners]
    pieces, dropped = [], Counter[str]()
    for start, stop in _periods(source, settings):
        if _steps(source, start, stop, settings) < settings.min_frames:
            dropped[f"stretches of time shorter than {settings.min_frames} frames"] += 1
            continue
        for corner, reason in zip(corners, _drop_reasons(source, range(start, stop), pixels, settings), strict=True):
            if reason:
                dropped[reason] += 1
            else:
                pieces.append(Piece(source.path, start, stop, *corner))
    return pieces, dropped


def read_piece(piece: Piece, settings: GridSettings) -> IngestedEvent:
    """Read one event: a tile on 1 km pixels at the regular step, as reflectivity, and as rain if the source has it.

    Raises:
        BadInput: See `source.open_source`.
    """
    source = open_source(piece.path, settings)
    frames = range(piece.start, piece.stop)
    place = footprint(source.geometry, piece.south, piece.east, settings.tile, MARGIN)
    values = _tile(source, frames, place, settings)
    rain = values if source.has_rain else None
    zh = _reflectivity(values, source, settings)
    times = source.times[piece.start : piece.stop]
    has_data = ~np.isnan(values)[:, None]
    regular = to_regular_steps(times, _echo_only(zh)[:, None, None], rain, has_data, step_minutes=settings.step_minutes)
    inner = slice(MARGIN, MARGIN + settings.tile)
    rain = None if regular.rain is None else regular.rain[:, inner, inner]
    radar = regular.radar[..., inner, inner]
    observed = None if regular.observed is None else regular.observed[..., inner, inner]
    if rain is not None and observed is not None:
        observed = np.repeat(observed & ~np.isnan(rain)[:, None], 2, axis=1)  # at the height and on the ground
    if rain is not None:
        # Derived again, so that the Z–R relation also holds in interpolated frames.
        radar = _echo_only(_reflectivity(rain, source, settings))[:, None, None]
    return IngestedEvent(
        times=regular.times,
        radar=np.nan_to_num(radar),
        rain=None if rain is None else np.nan_to_num(rain),
        covered=has_data[..., inner, inner].mean(0, dtype=np.float32),
        observed=observed,
        variables=("zh",),
        heights_km=(settings.height_km,),
        note={**_provenance(source, piece, place, settings), "time": regular.note},
    )


def derivation(settings: GridSettings) -> str:
    """Describe how reflectivity is derived from rain."""
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


def _periods(source: GriddedSource, settings: GridSettings) -> list[tuple[int, int]]:
    """Return frame ranges [start, stop) without a gap longer than `max_gap_minutes`, long ones divided into days."""
    gaps = np.diff(source.times) / np.timedelta64(1, "s") > 60 * settings.max_gap_minutes
    edges = [0, *(np.flatnonzero(gaps) + 1).tolist(), len(source.times)]
    return [(a + start, a + stop) for a, b in pairwise(edges) for start, stop in days_of(source.times[a:b])]


def _steps(source: GriddedSource, start: int, stop: int, settings: GridSettings) -> int:
    """Number of frames of the period at the regular step."""
    return len(seconds_of_steps(source.times[start:stop], settings.step_minutes))


def _drop_reasons(
    source: GriddedSource, frames: Sequence[int], pixels: list[npt.NDArray[np.int64]], settings: GridSettings
) -> list[str]:
    """Return the reason for dropping each tile; empty if it is kept."""
    coverage, echo = np.zeros(len(pixels)), np.zeros(len(pixels), np.int64)
    everything = slice(0, source.geometry.shape[0]), slice(0, source.geometry.shape[1])
    for values in source.each(frames, *everything):
        has_data, is_echo = ~np.isnan(values), _reflectivity(values, source, settings) >= _ECHO_DBZ
        coverage += [has_data.take(tile).mean() for tile in pixels]
        echo = np.maximum(echo, [is_echo.take(tile).sum() for tile in pixels])
    reasons = np.where(echo < settings.min_echo_pixels, _too_dry(settings), "")
    return np.where(coverage / len(frames) < settings.min_coverage, _too_little_coverage(settings), reasons).tolist()


def _too_little_coverage(settings: GridSettings) -> str:
    return f"tiles with less than {100 * settings.min_coverage:.0f}% coverage"


def _too_dry(settings: GridSettings) -> str:
    return f"tiles with fewer than {settings.min_echo_pixels} pixels of {_ECHO_DBZ:g} dBZ"


def _tile(source: GriddedSource, frames: Sequence[int], place: Footprint, settings: GridSettings) -> Field:
    """Return a tile with its margin on 1 km pixels, (t, y, x) in mm/h or dBZ; NaN and −inf as defined in `tiles`."""
    in_db, out = not source.has_rain, np.empty((len(frames), *place.row_places.shape), np.float32)
    for number, values in enumerate(source.each(frames, place.rows, place.columns)):
        native = _floored(values, settings) if in_db else values
        tile = lay_on_tile(native, place, in_db=in_db)
        out[number] = _floored(tile, settings) if in_db else tile
    return out


def _reflectivity(values: Field, source: GriddedSource, settings: GridSettings) -> Field:
    """Convert values in the source's quantity to dBZ; −inf where there is no echo, NaN where there is no data."""
    if not source.has_rain:
        return _floored(values, settings)
    a, b = settings.zr
    with np.errstate(divide="ignore"):
        zh = 10 * np.log10(a * np.where(values < LEAST_RAIN, 0, values) ** b)
    return _floored(zh.astype(np.float32), settings)


def _floored(zh: Field, settings: GridSettings) -> Field:
    return np.where(zh < settings.min_dbz, NO_ECHO, zh)


def _echo_only(zh: Field) -> Field:
    """Replace no echo (−inf) by NaN."""
    return np.where(np.isfinite(zh), zh, np.float32(np.nan))


def _provenance(source: GriddedSource, piece: Piece, place: Footprint, settings: GridSettings) -> dict[str, Any]:
    """Return the event's provenance for its note. All tiles of a source have its extent, as they show one storm."""
    extent = source.geometry.extent
    steps = np.diff(source.times[piece.start : piece.stop]) / np.timedelta64(60, "s")
    method = "bilinear to 1 km over pixels with data, reflectivity in dBZ over those with echo"
    if place.block != (1, 1):
        method = (
            f"means of {place.block[0]} by {place.block[1]} pixels ({'rain' if source.has_rain else 'power'}), {method}"
        )
    return {
        "read": source.note,
        **({"extent": [round(edge, 4) for edge in extent]} if extent else {}),
        "tile": {"south_km": piece.south, "east_km": piece.east, "size_km": settings.tile},
        "pixels": {
            "source_spacing_km": [round(s, 4) for s in source.geometry.spacing_km],
            "resampled": "as stored" if place.is_cut else method,
        },
        "source_step_minutes": round(float(np.median(steps)), 3) if len(steps) else None,
        "min_dbz": settings.min_dbz,
        **({"derived": {"zh": derivation(settings)}} if source.has_rain else {}),
    }
