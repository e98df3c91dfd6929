"""Open gridded sequences in npz: data (t, y, x), time, units, packing, and the place of the pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, not_installed, shown
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.axes import AS_GIVEN, AS_STORED, WEST_FIRST, Axes, Dims, axes_of
from polarcast.data.ingest.grids.frames import NpzFrames, npz_header
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.ground import axes_on_the_ground
from polarcast.data.ingest.grids.part import Channel, Part
from polarcast.data.ingest.grids.settings import SOUTH_FIRST, GridSettings
from polarcast.data.ingest.grids.times import from_text, plausible
from polarcast.data.ingest.grids.units import is_amount, minutes_of_sum
from polarcast.data.ingest.grids.values import decoding_of
from polarcast.data.ingest.ranges import SPACING_KM

_CORNER = ("lat0", "lon0", "dlat", "dlon")
_PACKING = {"scale": "scale_factor", "offset": "add_offset", "nodata": "missing_value"}
"""Attributes of CF by key; their own names are keys too."""
_CODES = ("_FillValue", "missing_value")
_ROWS = {"y": "", "lat": "degrees_north", "latitude": "degrees_north"}
_COLUMNS = {"x": "", "lon": "degrees_east", "longitude": "degrees_east"}
"""Coordinates and their units; y and x are in km or m, which the spacing tells."""
_KNOWN = (
    "data", "time", "units", *_PACKING, *dict.fromkeys((*_PACKING.values(), *_CODES)), "dx_km", *_CORNER, *_ROWS,
    *_COLUMNS,
)  # fmt: skip
_LAYOUT_FIX = "write data (t, y, x) and time (t,)"
_SAME = 0.01
"""Largest relative difference of the spacing and the step of coordinates."""


@dataclass(frozen=True)
class _Pixels:
    """Where the pixels of a file are."""

    geometry: Geometry
    note: dict[str, Any]
    from_east: bool = False
    origin: str = ""

    @classmethod
    def of(cls, axes: Axes) -> "_Pixels":
        return cls(axes.geometry, axes.note, axes.from_east, axes.origin)


def open_npz(path: Path, settings: GridSettings) -> Part:
    """Open an npz with data (t, y, x) and time, and optional keys.

    These are units; scale, offset and nodata, or the names of CF for them; and the place of the pixels: dx_km, or lat0,
    lon0, dlat and dlon, or y, x, lat and lon. Other keys may hold text only.

    Raises:
        BadInput: A key is missing, unknown, or has another shape or type; the spacing is no length; the units are
            unknown; coordinates do not tell which way north is.
    """
    with np.load(path, allow_pickle=False) as content:
        arrays = {key: content[key] for key in content.files if key != "data"}
        keys = list(content.files)
    for key in ("data", "time"):
        if key not in keys:
            raise BadInput(f"no {key!r} among {', '.join(keys)}", path, _LAYOUT_FIX)
    if unknown := [key for key in arrays if key not in _KNOWN and arrays[key].dtype.kind not in "SU"]:
        fix = f"keys that are read: {', '.join(_KNOWN)}; others may hold text"
        raise BadInput(f"the key {shown(unknown[0])} is not known", path, fix)
    (shape, dtype), times = npz_header(path), arrays["time"]
    if len(shape) != 3 or times.shape != shape[:1]:
        raise BadInput(f"data {shape} and {times.size} times", path, _LAYOUT_FIX)
    if dtype.kind not in "iuf":
        raise BadInput(f"data is {dtype}", path, "write real numbers, in dBZ or mm/h")
    pixels = _pixels(arrays, shape[1:], settings, path)
    decoding, units = decoding_of("", _text(arrays.get("units", "")), _packing(arrays, path), settings, path)
    return Part(
        path, _times(times, path), pixels.geometry, None, (Channel(decoding.variable, (0,)),), (decoding,),
        NpzFrames(path, pixels.from_east), {"layout": "npz", **pixels.note, "units": units}, pixels.origin,
        sum_minutes=minutes_of_sum(units) if is_amount(_text(arrays.get("units", ""))) else None,
    )  # fmt: skip


def _packing(arrays: dict[str, npt.NDArray[Any]], path: Path) -> dict[str, Any]:
    """Return packing and codes for missing data as attributes of CF."""
    found: dict[str, Any] = {
        name: _numbers(arrays, name, path) if name in _CODES else _number(arrays, name, path)
        for name in dict.fromkeys((*_PACKING.values(), *_CODES))
        if name in arrays
    }
    for key, name in _PACKING.items():
        if key in arrays and name in found:
            raise BadInput(f"both {key!r} and {name!r}", path, "write one of them")
        if key in arrays:
            found[name] = _number(arrays, key, path)
    return found


def _times(values: npt.NDArray[Any], path: Path) -> Times:
    if values.dtype.kind in "SU":
        return from_text(values, path)
    if not np.issubdtype(values.dtype, np.datetime64):
        raise BadInput(f"time is {values.dtype}", path, "write it as datetime64 in UTC")
    return plausible(values)


def _text(value: Any) -> str:
    found = np.ravel(np.asarray(value))[0]
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


def _number(arrays: dict[str, npt.NDArray[Any]], key: str, path: Path) -> float:
    values = _numbers(arrays, key, path)
    if len(values) != 1:
        raise BadInput(f"{key} is {shown(arrays[key].tolist())}", path, "write one number")
    return float(values[0])


def _numbers(arrays: dict[str, npt.NDArray[Any]], key: str, path: Path) -> npt.NDArray[Any]:
    values = np.ravel(arrays[key])
    if values.dtype.kind not in "iufb" or not values.size:
        raise BadInput(f"{key} is {shown(arrays[key].tolist())}", path, "write one number")
    return values


def _pixels(arrays: dict[str, npt.NDArray[Any]], shape: tuple[int, ...], settings: GridSettings, path: Path) -> _Pixels:
    given, missing = [k for k in (*_ROWS, *_COLUMNS) if k in arrays], [k for k in _CORNER if k not in arrays]
    if 0 < len(missing) < len(_CORNER):
        raise BadInput(f"no {missing[0]!r}", path, "give lat0, lon0, dlat and dlon for a grid in degrees")
    if given and not missing:
        raise BadInput(f"both {_CORNER[0]!r} and {given[0]!r}", path, "write one of them: corner or coordinates")
    if given:
        return _of_coordinates(
            {key: arrays[key] for key in given}, _spacing(arrays, settings, path), shape, settings, path
        )
    return _plane(arrays, shape, settings, path) if missing else _of_corner(arrays, shape, settings, path)


def _plane(arrays: dict[str, npt.NDArray[Any]], shape: tuple[int, ...], settings: GridSettings, path: Path) -> _Pixels:
    """Return pixels whose first row is north, as documented, unless the settings say otherwise."""
    given = _spacing(arrays, settings, path)
    plane = Geometry.plane(shape, given or 1.0, given or 1.0, settings.rows == SOUTH_FIRST)
    north = AS_GIVEN if settings.rows else AS_STORED
    return _Pixels(plane, {"north": north, "columns": WEST_FIRST, "spacing": given or "1 km, assumed"})


def _of_corner(
    arrays: dict[str, npt.NDArray[Any]], shape: tuple[int, ...], settings: GridSettings, path: Path
) -> _Pixels:
    spacing = settings.spacing_km
    lat0, lon0, dlat, dlon = (_number(arrays, key, path) for key in _CORNER)
    if dlon <= 0 or dlat == 0:
        what = f"pixels of {dlat:g} by {dlon:g} degrees (dlat, dlon)"
        raise BadInput(what, path, "write columns from west to east: dlon above 0, dlat not 0")
    north = "by dlat"
    if settings.rows and (settings.rows == SOUTH_FIRST) != (dlat > 0):
        lat0, dlat, north = lat0 + (shape[0] - 1) * dlat, -dlat, AS_GIVEN
    grid = Geometry.lat_lon(shape, lat0, lon0, dlat, dlon)
    plane = Geometry.plane(shape, spacing, spacing, grid.south_first) if spacing else grid
    return _Pixels(plane, {"north": north, "columns": "by dlon", "spacing": spacing or list(grid.spacing)})


def _of_coordinates(
    coordinates: dict[str, npt.NDArray[Any]],
    spacing: float | None,
    shape: tuple[int, ...],
    settings: GridSettings,
    path: Path,
) -> _Pixels:
    """Return pixels placed by coordinates of rows and columns, or of each pixel, as those of NetCDF."""
    try:
        import xarray as xr
    except ImportError as error:
        raise not_installed(str(error.name), "ingest", "ingest") from None

    content = xr.Dataset({"data": (("y", "x"), np.broadcast_to(np.int8(0), shape))})
    for key, values in coordinates.items():
        dim, units = ("y", _ROWS[key]) if key in _ROWS else ("x", _COLUMNS[key])
        dims = (dim,) if values.ndim == 1 else ("y", "x")
        wanted = tuple(content.sizes[d] for d in dims)
        if values.dtype.kind not in "iuf" or values.shape != wanted or (key == dim and values.ndim != 1):
            what = f"{key} of {values.dtype} has the shape {values.shape}, and frames {shape}"
            raise BadInput(what, path, "write a number for each row or column")
        units = units or _unit_of(key, values, spacing, path)
        content = content.assign_coords({key: (dims, values, {"units": units} if units else {})})
    order = Dims(None, None, "y", "x")
    axes = axes_of(content, content["data"], order, spacing, settings.rows, path)
    axes = axes_on_the_ground(content, content["data"], order, axes, spacing, path)
    return _Pixels.of(axes)


def _unit_of(key: str, values: npt.NDArray[Any], spacing: float | None, path: Path) -> str:
    """Return km or m, whichever fits the spacing; empty for indices of rows and columns, which tell no direction.

    Raises:
        BadInput: There is no spacing, or neither fits.
    """
    steps = np.abs(np.diff(values.astype(np.float64)))
    if np.array_equal(values, np.arange(len(values))) or np.array_equal(values, np.arange(1, len(values) + 1)):
        return ""
    if spacing is None:
        raise BadInput(f"the unit of {key} is not known", path, "write dx_km, or give --spacing-km")
    step = float(np.median(steps)) if steps.size else np.nan
    for unit, factor in (("km", 1.0), ("m", 1000.0)):
        if abs(step - factor * spacing) <= _SAME * factor * spacing:
            return unit
    raise BadInput(f"{key} has steps of {step:g}, and pixels are {spacing:g} km", path, f"write {key} in km or m")


def _spacing(arrays: dict[str, npt.NDArray[Any]], settings: GridSettings, path: Path) -> float | None:
    """Return the spacing of the settings, else that of the file; None if neither has one."""
    if settings.spacing_km or "dx_km" not in arrays:
        return settings.spacing_km
    value, (least, most) = _number(arrays, "dx_km", path), SPACING_KM
    if not least <= value <= most:
        fix = f"write {least:g} to {most:g} as dx_km, or give --spacing-km"
        raise BadInput(f"pixels of {value:g} km (dx_km)", path, fix)
    return value
