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
from polarcast.data.ingest.event import Field, IngestedEvent, Mask, Times
from polarcast.data.ingest.grids.positions import control_points
from polarcast.data.ingest.grids.settings import MISSING, GridSettings
from polarcast.data.ingest.grids.source import GriddedSource, open_source
from polarcast.data.ingest.grids.tiles import NO_ECHO, Footprint, footprint, lay_on_tile, nearest_pixels
from polarcast.data.ingest.grids.units import RAIN
from polarcast.data.ingest.missing import frames_with_values, listed, missing_note, refusal
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
        files: Source files, most often one.
        start, stop: Frame range in the source.
        south, east: Offsets of the north-west corner in km, see `Geometry.tiles`.
    """

    files: tuple[Path, ...]
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
        BadInput: The grid is smaller than one tile, an undeclared code for missing data fills an area of a frame, or
            the file is damaged.
    """
    if settings.nodata is None:
        source.check_codes()
    corners = _corners(source, settings)
    pixels = [nearest_pixels(source.geometry, *corner, settings.tile) for corner in corners]
    pieces, dropped = [], Counter[str](source.dropped)
    for start, stop in _periods(source, settings):
        if _steps(source, start, stop, settings) < settings.min_frames:
            dropped[f"stretches of time shorter than {settings.min_frames} frames"] += 1
            continue
        for corner, reason in zip(corners, _drop_reasons(source, range(start, stop), pixels, settings), strict=True):
            if reason:
                dropped[reason] += 1
            else:
                pieces.append(Piece(source.paths, start, stop, *corner))
    return pieces, dropped


def read_piece(piece: Piece, settings: GridSettings) -> IngestedEvent:
    """Read one event: a tile on 1 km pixels at the regular step, as reflectivity, and as rain if the source has it.

    Raises:
        BadInput: See `source.open_source` and `missing.frames_with_values`.
    """
    source = open_source(piece.files, settings)
    place = footprint(source.geometry, piece.south, piece.east, settings.tile, MARGIN)
    inner = slice(MARGIN, MARGIN + settings.tile)
    variables, heights = source.measured or ("zh",), heights_of(source, settings)
    fields = _tiles(source, range(piece.start, piece.stop), place, settings)
    zh = fields["zh"] if source.measured else _reflectivity(fields[RAIN], source, settings)
    radar = np.stack([_echo_only(zh), *(fields[name] for name in variables[1:])], axis=1)
    has_data = ~np.isnan(fields["zh"] if source.measured else fields[RAIN])
    times = source.times[piece.start : piece.stop]
    kept, left_out = _kept_frames(radar[..., inner, inner], times, variables, heights, settings, source.path)
    regular = to_regular_steps(
        times[kept], radar[kept], fields[RAIN][kept, 0] if source.has_rain else None, has_data[kept],
        step_minutes=settings.step_minutes,
    )  # fmt: skip
    rain = None if regular.rain is None else regular.rain[:, inner, inner]
    radar = regular.radar[..., inner, inner]
    observed = None if regular.observed is None else regular.observed[..., inner, inner]
    if rain is not None and observed is not None:
        observed = _with_ground(observed, ~np.isnan(rain), is_derived=not source.measured)
    if rain is not None and not source.measured:
        # Derived again, so that the Z–R relation also holds in interpolated frames.
        radar = _echo_only(_reflectivity(rain, source, settings))[:, None, None]
    return IngestedEvent(
        times=regular.times,
        radar=np.nan_to_num(radar),
        rain=None if rain is None else np.nan_to_num(rain),
        covered=has_data[kept][..., inner, inner].mean(0, dtype=np.float32),
        observed=observed,
        variables=variables,
        heights_km=heights,
        note={
            **_provenance(source, piece, place, settings), "time": {**regular.note, **left_out, **_time_note(source)},
            **missing_note(radar, variables, heights),
        },
    )  # fmt: skip


def _time_note(source: GriddedSource) -> dict[str, str]:
    """Return what of a frame its time is, if the file tells it."""
    return {"of": source.note["time"]} if "time" in source.note else {}


def _kept_frames(
    radar: Field,
    times: Times,
    variables: tuple[str, ...],
    heights_km: tuple[float, ...],
    settings: GridSettings,
    path: Path,
) -> tuple[Mask, dict[str, Any]]:
    """Return the frames (t,) in which no variable (t, v, z, y, x) lacks all values at a level, and a note on others.

    Raises:
        BadInput: See `missing.frames_with_values`; also if the frames that are left are too few, or leave a gap.
    """
    kept, lacking = frames_with_values(radar, variables, heights_km, path)
    if kept.all():
        return kept, {}
    left_out = [str(time) for time in times[~kept]]
    gaps = np.diff(times[kept]) / np.timedelta64(1, "s")
    steps = len(seconds_of_steps(times[kept], settings.step_minutes)) if kept.any() else 0
    if steps < settings.min_frames or gaps.max(initial=0) > 60 * settings.max_gap_minutes:
        where = f" in {len(left_out)} of {len(times)} frames, first at {left_out[0]}"
        raise refusal(lacking, variables, heights_km, path, where)
    return kept, {"left_out": {f"frames without {listed(lacking)} where zh has echo": left_out}}


def _with_ground(observed: Mask, has_rain: Mask, *, is_derived: bool) -> Mask:
    """Add the observed pixels on the ground, (t, y, x), as the last level; zh derived from rain is where rain is."""
    ground = has_rain[:, None]
    return np.repeat(observed & ground, 2, axis=1) if is_derived else np.concatenate([observed, ground], axis=1)


def heights_of(source: GriddedSource, settings: GridSettings) -> tuple[float, ...]:
    """Return the heights of a source's events: of its levels, or the one that data without levels are assigned to."""
    has_levels = source.heights_km is not None and source.measured
    return source.heights_km if has_levels and source.heights_km else (settings.height_km,)


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
    if source.heights_km is not None:
        coverage[:] = len(frames)  # files with levels mask what has no echo, so that their coverage is not known
    reasons = np.where(echo < settings.min_echo_pixels, _too_dry(settings), "")
    return np.where(coverage / len(frames) < settings.min_coverage, _too_little_coverage(settings), reasons).tolist()


def _too_little_coverage(settings: GridSettings) -> str:
    hint = "; if missing values mean no echo: --missing no-echo" if settings.missing == MISSING[0] else ""
    return f"tiles with less than {100 * settings.min_coverage:.0f}% coverage{hint}"


def _too_dry(settings: GridSettings) -> str:
    return f"tiles with fewer than {settings.min_echo_pixels} pixels of {_ECHO_DBZ:g} dBZ"


def _tiles(source: GriddedSource, frames: Sequence[int], place: Footprint, settings: GridSettings) -> dict[str, Field]:
    """Return a tile with its margin on 1 km pixels, (t, z, y, x) by variable; NaN and −inf as defined in `tiles`.

    ZDR and KDP have values where zh has echo.
    """
    out: dict[str, list[Field]] = {}
    for fields in source.each_variable(frames, place.rows, place.columns):
        laid = {name: _laid(name, levels, place, settings) for name, levels in fields.items()}
        for name, levels in laid.items():
            masked = levels if name in ("zh", RAIN) else np.where(np.isfinite(laid["zh"]), levels, np.float32(np.nan))
            out.setdefault(name, []).append(masked)
    return {name: np.stack(found) for name, found in out.items()}


def _laid(name: str, levels: Field, place: Footprint, settings: GridSettings) -> Field:
    """Lay the levels (z, y, x) of one variable on the tile."""
    is_zh = name == "zh"
    native = _floored(levels, settings) if is_zh else levels
    tile = np.stack([lay_on_tile(level, place, in_db=is_zh) for level in native])
    return _floored(tile, settings) if is_zh else tile


def _reflectivity(values: Field, source: GriddedSource, settings: GridSettings) -> Field:
    """Convert values in the source's quantity to dBZ; −inf where there is no echo, NaN where there is no data."""
    if source.measured:
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
            f"means of {place.block[0]} by {place.block[1]} pixels ({'power' if source.measured else 'rain'}), {method}"
        )
    return {
        "read": source.note,
        **({"extent": [round(edge, 4) for edge in extent]} if extent else {}),
        "tile": {"south_km": piece.south, "east_km": piece.east, "size_km": settings.tile},
        **control_points(source.parts[0].positions, source.geometry, piece.south, piece.east, settings.tile),
        "pixels": {
            "source_spacing_km": [round(s, 4) for s in source.geometry.spacing_km],
            "resampled": "as stored" if place.is_cut else method,
        },
        "source_step_minutes": round(float(np.median(steps)), 3) if len(steps) else None,
        "min_dbz": settings.min_dbz,
        **({} if source.measured else {"derived": {"zh": derivation(settings)}}),
        **({"beyond_bounds": number} if (number := source.beyond.total()) else {}),
        **({"missing": "taken as no echo"} if settings.missing == MISSING[1] else {}),
    }
