"""Open gridded sequences in npz: data (t, y, x), time, units, packing, and the place of the pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.axes import AS_GIVEN, AS_STORED
from polarcast.data.ingest.grids.frames import NpzFrames, npz_header
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.part import Channel, Part
from polarcast.data.ingest.grids.settings import SOUTH_FIRST, GridSettings
from polarcast.data.ingest.grids.times import from_text, plausible
from polarcast.data.ingest.grids.values import decoding_of
from polarcast.data.ingest.ranges import SPACING_KM

_CORNER = ("lat0", "lon0", "dlat", "dlon")
_PACKING = {"scale": "scale_factor", "offset": "add_offset", "nodata": "missing_value"}
_LAYOUT_FIX = "write data (t, y, x) and time (t,)"


def open_npz(path: Path, settings: GridSettings) -> Part:
    """Open an npz with keys data (t, y, x), time; scale, offset, nodata, units; dx_km, or lat0, lon0, dlat, dlon.

    Raises:
        BadInput: A key is missing or has another shape or type; the spacing is no length; the units are unknown.
    """
    with np.load(path, allow_pickle=False) as content:
        arrays = {key: content[key] for key in content.files if key != "data"}
        keys = list(content.files)
    for key in ("data", "time"):
        if key not in keys:
            raise BadInput(f"no {key!r} among {', '.join(keys)}", path, _LAYOUT_FIX)
    (shape, dtype), times = npz_header(path), arrays["time"]
    if len(shape) != 3 or times.shape != shape[:1]:
        raise BadInput(f"data {shape} and {times.size} times", path, _LAYOUT_FIX)
    if dtype.kind not in "iuf":
        raise BadInput(f"data is {dtype}", path, "write real numbers, in dBZ or mm/h")
    geometry, note = _geometry(arrays, shape[1:], settings, path)
    attributes = {cf: _number(arrays, key, path) for key, cf in _PACKING.items() if key in arrays}
    decoding, units = decoding_of("", _text(arrays.get("units", "")), attributes, settings, path)
    return Part(
        path, _times(times, path), geometry, None, (Channel(decoding.variable, (0,)),), (decoding,), NpzFrames(path),
        {"layout": "npz", **note, "units": units},
    )  # fmt: skip


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
    value = np.ravel(arrays[key])
    if len(value) != 1 or value.dtype.kind not in "iufb":
        raise BadInput(f"{key} is {shown(arrays[key].tolist())}", path, "write one number")
    return float(value[0])


def _geometry(
    arrays: dict[str, npt.NDArray[Any]], shape: tuple[int, ...], settings: GridSettings, path: Path
) -> tuple[Geometry, dict[str, Any]]:
    missing, spacing = [k for k in _CORNER if k not in arrays], settings.spacing_km
    if 0 < len(missing) < len(_CORNER):
        raise BadInput(f"no {missing[0]!r}", path, "give lat0, lon0, dlat and dlon for a grid in degrees")
    if missing:
        given = spacing or (_spacing(arrays, path) if "dx_km" in arrays else None)
        south_first = settings.rows == SOUTH_FIRST
        north = AS_GIVEN if settings.rows else AS_STORED
        plane = Geometry.plane(shape, given or 1.0, given or 1.0, south_first)
        return plane, {"north": north, "spacing": given or "1 km, assumed"}
    lat0, lon0, dlat, dlon = (_number(arrays, key, path) for key in _CORNER)
    if dlon <= 0 or dlat == 0:
        what = f"pixels of {dlat:g} by {dlon:g} degrees (dlat, dlon)"
        raise BadInput(what, path, "write columns from west to east: dlon above 0, dlat not 0")
    north = "by dlat"
    if settings.rows and (settings.rows == SOUTH_FIRST) != (dlat > 0):
        lat0, dlat, north = lat0 + (shape[0] - 1) * dlat, -dlat, AS_GIVEN
    grid = Geometry.lat_lon(shape, lat0, lon0, dlat, dlon)
    plane = Geometry.plane(shape, spacing, spacing, grid.south_first) if spacing else grid
    return plane, {"north": north, "spacing": spacing or list(grid.spacing)}


def _spacing(arrays: dict[str, npt.NDArray[Any]], path: Path) -> float:
    value, (least, most) = _number(arrays, "dx_km", path), SPACING_KM
    if not least <= value <= most:
        fix = f"write {least:g} to {most:g} as dx_km, or give --spacing-km"
        raise BadInput(f"pixels of {value:g} km (dx_km)", path, fix)
    return value
