"""Find the time, y and x axes of a variable and the geometry of its pixels (CF conventions)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.geometry import Geometry, Real

AS_STORED = "first row, as stored"
_X_NAMES = frozenset({"x", "xc", "lon", "longitude", "rlon", "easting", "west_east", "projection_x_coordinate"})
_Y_NAMES = frozenset({"y", "yc", "lat", "latitude", "rlat", "northing", "south_north", "projection_y_coordinate"})
_DEGREES = frozenset({"lat", "lon", "latitude", "longitude"})
_KM = {"m": 0.001, "metre": 0.001, "meter": 0.001, "km": 1.0, "kilometre": 1.0, "kilometer": 1.0}


@dataclass(frozen=True)
class Axes:
    """Time, y and x axes of a variable.

    Attributes:
        dims: Names of the time, y and x axes.
        times: (n,) datetime64[s], in stored order.
        geometry: Geometry of the pixels; columns are counted from the west.
        from_east: Whether the file's first column is the easternmost.
        note: How north was determined, and the spacing.
    """

    dims: tuple[str, str, str]
    times: Times
    geometry: Geometry
    from_east: bool
    note: dict[str, Any]


@dataclass(frozen=True)
class _Axis:
    """Coordinates of rows or columns in km or degrees."""

    values: Real
    in_degrees: bool

    @property
    def step(self) -> float:
        return float(self.values[-1] - self.values[0]) / (len(self.values) - 1)

    @property
    def is_even(self) -> bool:
        return self.step != 0 and bool(np.allclose(np.diff(self.values), self.step, rtol=0.01))


def axes_of(array: Any, spacing_km: float | None, path: Path) -> Axes:
    """Return the axes of an xarray variable.

    Args:
        array: Variable with a time axis and two spatial axes; any others must have length 1.
        spacing_km: Pixel spacing; overrides the coordinates.
        path: Source file for error messages.

    Raises:
        BadInput: The variable has no time axis or not two spatial axes; or the spatial axes are uneven or have unknown
            units, and no spacing was given.
    """
    time_dim, times = _time_axis(array, path)
    y_dim, x_dim = _space_dims(array, time_dim, path)
    shape = (array.sizes[y_dim], array.sizes[x_dim])
    rows, columns = _axis(array, y_dim), _axis(array, x_dim)
    south_first, method = _south_first(array, rows, y_dim, x_dim)
    from_east = columns is not None and columns.step < 0
    if spacing_km:
        geometry, step = Geometry.plane(shape, spacing_km, spacing_km, south_first), [spacing_km, spacing_km]
    else:
        geometry, step = _geometry(shape, rows, columns, south_first, path)
    return Axes((time_dim, y_dim, x_dim), times, geometry, from_east, {"north": method, "spacing": step})


def has_time_axis(array: Any) -> bool:
    """Whether a variable can be a sequence of fields."""
    wide = [d for d in array.dims if array.sizes[d] > 1]
    return bool(_time_axes(array)) and 2 <= len(wide) <= 3


def _time_axes(array: Any) -> list[Any]:
    """Return 1-D time coordinates; the one with its axis's name comes first."""
    found = [c for c in array.coords.values() if c.ndim == 1 and np.issubdtype(c.dtype, np.datetime64)]
    return sorted(found, key=lambda c: c.name != c.dims[0])


def _time_axis(array: Any, path: Path) -> tuple[str, Times]:
    found = _time_axes(array)
    if not found:
        raise BadInput(f"{array.name} has no time axis", path, "give a sequence of fields, (time, y, x)")
    return str(found[0].dims[0]), found[0].values.astype("datetime64[s]")


def _space_dims(array: Any, time_dim: str, path: Path) -> tuple[str, str]:
    others = [str(d) for d in array.dims if d != time_dim]
    wide = [d for d in others if array.sizes[d] > 1]
    if len(wide) != 2:
        raise BadInput(f"{array.name} is {tuple(array.dims)}, not (time, y, x)", path, "select one level first")
    y, x = wide
    is_turned = _is(array, y, "X", _X_NAMES) or _is(array, x, "Y", _Y_NAMES)
    return (x, y) if is_turned else (y, x)


def _is(array: Any, dim: str, letter: str, names: frozenset[str]) -> bool:
    attrs = array[dim].attrs if dim in array.coords else {}
    called = {dim.lower(), str(attrs.get("standard_name", "")).lower()}
    return str(attrs.get("axis", "")).upper() == letter or bool(called & names)


def _axis(array: Any, dim: str) -> _Axis | None:
    """Return coordinates of rows or columns; None unless the file gives them in units of length or degrees."""
    if dim not in array.coords or array.sizes[dim] < 2:
        return None
    attrs = array[dim].attrs
    unit = str(attrs.get("units", "")).strip().lower()
    in_degrees = unit.startswith("degree") or (not unit and dim.lower() in _DEGREES)
    scale = 1.0 if in_degrees else _KM.get(unit.removesuffix("s"))
    if scale is None:
        return None
    values = array[dim].values.astype(np.float64) * scale
    return _Axis(np.unwrap(values, period=360) if in_degrees else values, in_degrees)


def _south_first(array: Any, rows: _Axis | None, y_dim: str, x_dim: str) -> tuple[bool, str]:
    """Return whether the file's first row is the southernmost, and how that was determined."""
    if rows is not None:
        return rows.step > 0, "by the y axis"
    latitude = _latitude_of_pixels(array, y_dim, x_dim)
    if latitude is None:
        return False, AS_STORED
    first, last = np.nanmean(latitude[0]), np.nanmean(latitude[-1])
    return bool(last > first), "by the latitude of the pixels"


def _latitude_of_pixels(array: Any, y_dim: str, x_dim: str) -> npt.NDArray[Any] | None:
    for name, coordinate in array.coords.items():
        called = {str(name).lower(), str(coordinate.attrs.get("standard_name", "")).lower()}
        if set(coordinate.dims) == {y_dim, x_dim} and called & {"lat", "latitude"}:
            return np.asarray(coordinate.transpose(y_dim, x_dim).values)
    return None


def _geometry(
    shape: tuple[int, int], rows: _Axis | None, columns: _Axis | None, south_first: bool, path: Path
) -> tuple[Geometry, list[float]]:
    if rows is None or columns is None or rows.in_degrees != columns.in_degrees:
        raise BadInput("no x and y axes with units of m, km or degrees", path, "give the spacing: --spacing-km 1")
    if not (rows.is_even and columns.is_even):
        raise BadInput("the rows or columns are not evenly spaced", path, "regrid the data to an even spacing")
    dy, dx = rows.step, abs(columns.step)
    if not rows.in_degrees:
        return Geometry.plane(shape, round(dy, 6), round(dx, 6), south_first), [round(abs(dy), 6), round(dx, 6)]
    corner = float(rows.values[0]), float(columns.values.min())
    return Geometry.lat_lon(shape, *corner, dy, dx), [round(abs(dy), 6), round(dx, 6)]
