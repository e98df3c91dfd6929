"""Find the axes of a variable, the geometry of its pixels, and which way they run (CF conventions)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.cf_values import decoded
from polarcast.data.ingest.grids.geometry import Geometry, Real
from polarcast.data.ingest.grids.levels import is_level_axis
from polarcast.data.ingest.grids.settings import NORTH_FIRST, SOUTH_FIRST
from polarcast.data.ingest.grids.times import is_lead_time, time_variables

AS_STORED = "first row, as stored"
WEST_FIRST = "west first, assumed"
AS_GIVEN = "by --rows"
ASK_ROWS = f"say it: --rows {NORTH_FIRST} or --rows {SOUTH_FIRST}"
_X_NAMES = frozenset({"x", "xc", "lon", "longitude", "rlon", "easting", "eastings", "east", "westing", "westings",
                      "west_east", "projection_x_coordinate", "grid_longitude"})  # fmt: skip
_Y_NAMES = frozenset({"y", "yc", "lat", "latitude", "rlat", "northing", "northings", "north", "southing", "southings",
                      "south_north", "projection_y_coordinate", "grid_latitude"})  # fmt: skip
_EAST_NORTH = {"e", "n"}
"""Names of axes in this order that are those of columns and rows; one of them alone means nothing."""
_BACK = re.compile(r"\b(?:southings?|westings?)\b")
"""Words of the names of axes that grow to the south or the west."""
_SPOKEN = frozenset({"easting", "northing", "southing", "westing", "longitude", "latitude"})
"""Words of long names that tell an axis."""
_DEGREES = frozenset({"lat", "lon", "latitude", "longitude"})
_ROTATED = frozenset({"rlat", "rlon", "grid_latitude", "grid_longitude"})
_MAPPED = frozenset({"projection_x_coordinate", "projection_y_coordinate", "grid_latitude", "grid_longitude",
                     "latitude", "longitude"})  # fmt: skip
"""Standard names of axes that rise to the north and the east, whatever their units."""
_KM = {"m": 0.001, "metre": 0.001, "meter": 0.001, "km": 1.0, "kilometre": 1.0, "kilometer": 1.0}
_LENGTH = re.compile(r"(?:(\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*\*?\s*)?([a-z]+?)s?")
_PLACES = {
    "latitude": (
        re.compile(r"degrees?_?(?:n(?:orth)?|s(?:outh)?)"),
        frozenset({"lat", "lats", "latitude", "latitudes", "xlat"}),
    ),
    "longitude": (
        re.compile(r"degrees?_?(?:e(?:ast)?|w(?:est)?)"),
        frozenset({"lon", "lons", "longitude", "longitudes", "xlong"}),
    ),
}
"""Units and names of latitudes and longitudes."""
_COUNTED_BACK = re.compile(r"degrees?(?:_[sw]|_?south|_?west)")
"""Units of angles that grow to the south or the west."""
_PLANE = 2
_VERTICAL = re.compile(r"bottom_top|lev|height|alt|sigma|eta|pres|plev|isobar|hpa|^z|^k$|^nz")
"""Names of axes that may count heights."""
_EXACT, _ROUNDED = 0.05, 0.6
"""Largest deviation from an even axis in pixels; that of coordinates rounded to a few decimals."""
_MOST_DECIMALS = 7
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_GEOTRANSFORM = 6
"""Numbers of a GeoTransform: west edge, column step, skew, north edge, skew, row step."""


@dataclass(frozen=True)
class Dims:
    """Names of a variable's axes; time and level are None where it has none."""

    time: str | None
    level: str | None
    y: str
    x: str


@dataclass(frozen=True)
class Axes:
    """Rows and columns of a variable.

    Attributes:
        geometry: Geometry of the pixels; columns are counted from the west.
        from_east: Whether the file's first column is the easternmost.
        note: How north and west were determined, and the spacing.
        origin: Coordinates of the first pixel, to tell apart grids of one product at several places.
    """

    geometry: Geometry
    from_east: bool
    note: dict[str, Any]
    origin: str = ""


@dataclass(frozen=True)
class _Axis:
    """Coordinates of rows or columns in km or degrees."""

    values: Real
    in_degrees: bool
    decimals: int | None = None
    """Decimals to which the file's coordinates are rounded; None for more than a few."""
    is_rotated: bool = False

    @property
    def line(self) -> tuple[float, float]:
        """First coordinate and step of the even axis that fits best."""
        ends = float(self.values[0]), float(self.values[-1] - self.values[0]) / (len(self.values) - 1)
        if self._deviation(*ends) <= _EXACT * abs(ends[1]):
            return ends
        step, first = np.polyfit(np.arange(len(self.values)), self.values, 1)
        return float(first), float(step)

    @property
    def is_even(self) -> bool:
        """Whether coordinates deviate from a line by no more than their rounding, or a small share of a pixel.

        Rounding errors reach half of the last decimal. They drift along the axis, and the line follows them by as much.
        """
        first, step = self.line
        return step != 0 and self._deviation(first, step) <= max(_EXACT * abs(step), self._rounding(abs(step)))

    def _rounding(self, step: float) -> float:
        """Return the largest deviation by rounding; 0 if one step differs by a pixel, as where a row is absent."""
        if self.decimals is None:
            return 0.0
        unit = 10.0**-self.decimals
        steps = np.rint(np.diff(self.values) / unit)
        is_odd = steps != np.median(steps)
        return 0.0 if unit > step / 2 and is_odd.sum() == 1 else min(unit, _ROUNDED * step)

    def _deviation(self, first: float, step: float) -> float:
        return float(np.abs(self.values - (first + step * np.arange(len(self.values)))).max())


def dims_of(content: Any, array: Any, path: Path) -> Dims:
    """Return the axes of a variable of an xarray dataset.

    Raises:
        BadInput: It is a forecast, has no time, or not two spatial axes and perhaps one of heights.
    """
    wide = [str(d) for d in array.dims if array.sizes[d] > 1]
    if leads := [d for d in wide if is_lead_time(content, d)]:
        raise BadInput(f"forecasts by lead time (axis {leads[0]!r})", path, "give observations: these are none")
    times = time_variables(content, array.dims)
    if not times:
        sizes = ", ".join(f"{d} {array.sizes[d]}" for d in array.dims)
        fix = "add times with units such as 'minutes since 2020-06-01'; in Zarr, their metadata may be absent"
        raise BadInput(f"{array.name} has the axes {sizes}, and no times", path, fix)
    time = str(times[0].dims[0]) if times[0].ndim and times[0].dims[0] in array.dims else None
    others = [d for d in wide if d != time]
    levels = [d for d in others if is_level_axis(content, d)] if len(others) > 2 else []
    if len(others) - len(levels) != 2 or len(levels) > 1:
        raise _other_axes(content, array, others, path)
    y, x = (d for d in others if d not in levels)
    is_turned = _is(content, y, "X", _X_NAMES) or _is(content, x, "Y", _Y_NAMES)
    is_turned |= {y.lower(), x.lower()} == _EAST_NORTH and y.lower() == "e"
    return Dims(time, levels[0] if levels else None, *((x, y) if is_turned else (y, x)))


def _other_axes(content: Any, array: Any, others: list[str], path: Path) -> BadInput:
    """Return the error for a variable that has not two axes of space, and perhaps one of heights."""
    sizes = ", ".join(f"{d} {array.sizes[d]}" for d in array.dims)
    if len(others) < _PLANE:
        return BadInput(f"{array.name} has the axes {sizes}: not rows and columns", path, "give fields (time, y, x)")
    further = [d for d in others if not _is(content, d, "X", _X_NAMES) and not _is(content, d, "Y", _Y_NAMES)]
    named = [d for d in further[: len(others) - _PLANE] if len(others) - len(further) == _PLANE] or others[:-_PLANE]
    what = f"{array.name} has the axes {sizes}, and {' and '.join(named)} is neither time, height, row nor column"
    if len(named) > 1:
        what = what.replace(" is neither", " are neither")
    or_heights = ", or write its heights in m" if any(_VERTICAL.search(d.lower()) for d in named) else ""
    return BadInput(what, path, f"select one {' and one '.join(named)} first{or_heights}")


def axes_of(content: Any, array: Any, dims: Dims, spacing_km: float | None, rows: str | None, path: Path) -> Axes:
    """Return the geometry of a variable of an xarray dataset.

    Args:
        content: Dataset, values as stored.
        array: Variable of it.
        dims: Its axes.
        spacing_km: Pixel spacing; overrides the coordinates, but not their direction.
        rows: `north-first` or `south-first`; overrides the file.
        path: Source file for error messages.

    Raises:
        BadInput: Nothing tells whether the first row is north; or the spatial axes are uneven or have unknown units,
            and no spacing was given.
    """
    shape = (array.sizes[dims.y], array.sizes[dims.x])
    y_axis = _axis(content, dims.y, dims.x, "latitude", path)
    x_axis = _axis(content, dims.x, dims.y, "longitude", path)
    direction = (rows == SOUTH_FIRST, AS_GIVEN) if rows else _direction(content, dims.y, dims.x, "latitude", path)
    if direction is None and spacing_km is None and y_axis is None and declared_spacing(content) is None:
        raise BadInput(_no_axes(content, dims), path, f"give --spacing-km KM and {ASK_ROWS.removeprefix('say it: ')}")
    if direction is None:
        raise BadInput("nothing in it tells whether its first row is north", path, ASK_ROWS)
    south_first, method = direction
    from_west = _direction(content, dims.x, dims.y, "longitude", path)
    if spacing_km:
        geometry, step = Geometry.plane(shape, spacing_km, spacing_km, south_first), [spacing_km, spacing_km]
    elif (declared := declared_spacing(content)) and not (_is_length(y_axis) and _is_length(x_axis)):
        geometry, step = Geometry.plane(shape, *declared, south_first), list(declared)
    else:
        if y_axis is None or x_axis is None or y_axis.in_degrees != x_axis.in_degrees:
            raise BadInput(_no_axes(content, dims), path, "give the spacing: --spacing-km KM")
        geometry, step = _geometry(shape, y_axis, x_axis, south_first, path)
    origin = " ".join(f"{axis.values[0]:.3f}" for axis in (y_axis, x_axis) if axis is not None)
    is_from_west, columns = from_west or (True, WEST_FIRST)
    return Axes(geometry, not is_from_west, {"north": method, "columns": columns, "spacing": step}, origin)


def declared_spacing(content: Any) -> tuple[float, float] | None:
    """Return the spacing of rows and columns in km that attributes declare; None if there is none, or in degrees.

    These are GDAL's `GeoTransform` of a projected grid mapping, and WRF's global `DY` and `DX`, both in m.
    """
    for variable in content.variables.values():
        text = " ".join(map(str, np.ravel(variable.attrs.get("GeoTransform", ""))))
        numbers = [float(part) for part in text.split() if _NUMBER.fullmatch(part)]
        is_degrees = str(variable.attrs.get("grid_mapping_name", "latitude_longitude")) == "latitude_longitude"
        if len(numbers) == _GEOTRANSFORM and not is_degrees and numbers[1] and numbers[5] and not numbers[2]:
            return abs(numbers[5]) / 1000, abs(numbers[1]) / 1000
    both = [np.ravel(content.attrs.get(key, "")) for key in ("DY", "DX")]
    if all(values.size == 1 and values.dtype.kind in "iuf" and values[0] > 0 for values in both):
        return float(both[0][0]) / 1000, float(both[1][0]) / 1000
    return None


def lines_km(content: Any, dims: Dims, path: Path) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Return first coordinate and step in km of rows and columns as stored; None unless both axes are even lengths."""
    axes = [_own_axis(content, dim, path) if content.sizes[dim] > 1 else None for dim in (dims.y, dims.x)]
    found = [axis.line for axis in axes if axis is not None and not axis.in_degrees and axis.is_even]
    return (found[0], found[1]) if len(found) == len(axes) else None


def degrees_of(content: Any, dims: Dims, path: Path) -> tuple[Real, Real] | None:
    """Return latitudes of the rows and longitudes of the columns as stored; None unless the axes are these."""
    latitude = _axis(content, dims.y, dims.x, "latitude", path)
    longitude = _axis(content, dims.x, dims.y, "longitude", path)
    if latitude is None or longitude is None or not (latitude.in_degrees and longitude.in_degrees):
        return None
    return None if latitude.is_rotated or longitude.is_rotated else (latitude.values, longitude.values)


def place_of(content: Any, name: str, kind: str) -> bool:
    """Whether a variable of a dataset holds latitudes or longitudes, by its standard name, units or name."""
    attributes = content.variables[name].attrs
    if standard := str(attributes.get("standard_name", "")).strip().lower():
        return standard == kind
    units, names = _PLACES[kind]
    return bool(units.fullmatch(str(attributes.get("units", "")).strip().lower())) or name.lower() in names


def positions(content: Any, dims: Dims, path: Path) -> tuple[Real, Real] | None:
    """Return latitude and longitude of the pixels, each (y, x) as stored; None unless the file has both in 2D."""
    latitude = [values for values in _places(content, dims.y, dims.x, "latitude", path) if values.ndim == 2]
    longitude = [values.T for values in _places(content, dims.x, dims.y, "longitude", path) if values.ndim == 2]
    return (latitude[0], longitude[0]) if latitude and longitude else None


def _is_length(axis: _Axis | None) -> bool:
    return axis is not None and not axis.in_degrees


def _no_axes(content: Any, dims: Dims) -> str:
    """Say that there are no usable axes, with the units that they have."""
    units = [str(content.variables[d].attrs.get("units", "")) for d in (dims.y, dims.x) if d in content.variables]
    has = f": they have {', '.join(map(shown, dict.fromkeys(units)))}" if any(units) else ""
    return f"no x and y axes with units of m, km or degrees{has}"


def _is(content: Any, dim: str, letter: str, names: frozenset[str]) -> bool:
    attributes = content.variables[dim].attrs if dim in content.variables else {}
    called = {dim.lower(), str(attributes.get("standard_name", "")).lower()}
    called |= set(str(attributes.get("long_name", "")).lower().split()) & _SPOKEN
    return str(attributes.get("axis", "")).upper() == letter or bool(called & names)


def _axis(content: Any, dim: str, other: str, kind: str, path: Path) -> _Axis | None:
    """Return coordinates of rows or columns; None unless the file gives them in units of length or degrees."""
    if content.sizes[dim] < 2:
        return None
    own = _own_axis(content, dim, path)
    if own is not None:
        return own
    for values in _places(content, dim, other, kind, path):
        if values.ndim == 1 or bool(np.all(np.abs(values - values[:, :1]) < 1e-9)):
            line = values if values.ndim == 1 else values[:, 0]
            return _Axis(np.unwrap(line, period=360), in_degrees=True, decimals=_decimals(line))
    return None


def _own_axis(content: Any, dim: str, path: Path) -> _Axis | None:
    if dim not in content.variables or content.variables[dim].dtype.kind not in "iuf":
        return None
    attributes = content.variables[dim].attrs
    unit = str(attributes.get("units", "")).strip().lower()
    in_degrees = unit.startswith("degree") or (not unit and dim.lower() in _DEGREES)
    scale = 1.0 if in_degrees else _km_of(unit)
    if scale is None:
        return None
    stored = _to_north_and_east(decoded(np.asarray(content.variables[dim].values), attributes), unit, path)
    stored = -stored if _is_counted_back(dim, attributes) else stored
    decimals, values = _decimals(stored), stored * scale
    if in_degrees:
        is_rotated = bool({dim.lower(), str(attributes.get("standard_name", "")).lower()} & _ROTATED)
        return _Axis(np.unwrap(values, period=360), True, decimals, is_rotated)
    return _Axis(values, False, None if decimals is None else decimals - round(np.log10(scale)))


def _to_north_and_east(values: Real, unit: str, path: Path) -> Real:
    """Return angles that grow to the north or the east. Raises BadInput if it is not clear which way they grow."""
    if not _COUNTED_BACK.fullmatch(unit.strip().lower()):
        return values
    if (values < 0).all():
        what = f"coordinates of {values.flat[0]:g} in {shown(unit)}: it is not clear on which side they are"
        raise BadInput(what, path, "write them in degrees_north and degrees_east")
    return -values


def _is_counted_back(dim: str, attributes: Any) -> bool:
    """Whether an axis grows to the south or the west by its names, or by the attribute `positive`."""
    names = (dim, attributes.get("standard_name", ""), attributes.get("long_name", ""))
    is_named = bool(_BACK.search(" ".join(map(str, names)).lower().replace("_", " ")))
    return is_named or str(attributes.get("positive", "")).lower() in ("south", "southward", "west", "westward")


def _km_of(unit: str) -> float | None:
    """Return the km of a unit of length, such as m, km or 1000 m; None for any other."""
    found = _LENGTH.fullmatch(unit)
    factor = _KM.get(found[2]) if found else None
    return None if found is None or factor is None else factor * float(found[1] or 1)


def _decimals(values: Real) -> int | None:
    """Return the number of decimals of coordinates, at least 1; None if they have more than a few."""
    scale = float(np.abs(values).max())
    for decimals in range(1, _MOST_DECIMALS):
        if np.abs(values - np.round(values, decimals)).max() <= max(1e-12, 1.2e-7 * scale):
            return decimals
    return None


def _direction(content: Any, dim: str, other: str, kind: str, path: Path) -> tuple[bool, str] | None:
    """Return whether coordinates rise along an axis to the north or the east, and how that was determined.

    Raises:
        BadInput: The axis and the latitudes (longitudes) of the pixels disagree.
    """
    found = list(_evidence(content, dim, other, kind, path))
    if len({rises for rises, _ in found}) > 1:
        fix = ASK_ROWS if kind == "latitude" else "correct one of them"
        ways = " and ".join(dict.fromkeys(how.removeprefix("by ") for _, how in found))
        raise BadInput(f"{ways} disagree about {'north' if kind == 'latitude' else 'east'}", path, fix)
    return found[0] if found else None


def _evidence(content: Any, dim: str, other: str, kind: str, path: Path) -> Iterator[tuple[bool, str]]:
    letter = "y" if kind == "latitude" else "x"
    own = _own_axis(content, dim, path) if content.sizes[dim] > 1 else None
    if own is not None:
        yield own.line[1] > 0, f"by the {letter} axis"
    elif dim in content.variables and content.sizes[dim] > 1:
        axis = content.variables[dim]
        if str(axis.attrs.get("standard_name", "")).lower() in _MAPPED:
            values = decoded(np.asarray(axis.values), axis.attrs)
            yield bool(values[-1] > values[0]) != _is_counted_back(dim, axis.attrs), f"by the {letter} axis"
    for values in _places(content, dim, other, kind, path):
        steps = np.diff(values, axis=0)
        rise = np.nanmedian((steps + 180) % 360 - 180) if np.isfinite(steps).any() else 0.0
        if rise:
            what = "rows" if kind == "latitude" else "columns"
            yield bool(rise > 0), f"by the {kind} of the {what if values.ndim == 1 else 'pixels'}"


def _places(content: Any, dim: str, other: str, kind: str, path: Path) -> Iterator[Real]:
    """Yield the latitudes or longitudes along an axis, (n,), or (n, m) with the other axis; the former first."""
    found = []
    for name, variable in content.variables.items():
        wanted = [d for d in (dim, other) if d in variable.dims]
        if dim not in wanted or variable.dtype.kind not in "iuf" or not place_of(content, str(name), kind):
            continue
        if str(name) == dim or content.sizes[dim] < 2:
            continue
        first = variable.isel({d: 0 for d in variable.dims if d not in wanted}).transpose(*wanted)
        values = decoded(np.asarray(first.values), variable.attrs)
        found.append(_to_north_and_east(values, str(variable.attrs.get("units", "")), path))
    yield from sorted(found, key=lambda values: values.ndim)


def _geometry(
    shape: tuple[int, int], rows: _Axis, columns: _Axis, south_first: bool, path: Path
) -> tuple[Geometry, list[float]]:
    for axis, name in ((rows, "rows"), (columns, "columns")):
        if not axis.is_even:
            raise BadInput(f"the {name} are not evenly spaced", path, "regrid the data to an even spacing")
    (first_y, dy), (first_x, dx) = rows.line, columns.line
    step = [round(abs(dy), 6), round(abs(dx), 6)]
    if not rows.in_degrees:
        return Geometry.plane(shape, round(dy, 6), round(dx, 6), south_first), step
    if (dy > 0) != south_first:  # --rows says otherwise: the same latitudes in the other order
        first_y, dy = first_y + (shape[0] - 1) * dy, -dy
    west = min(first_x, first_x + (shape[1] - 1) * dx)
    return Geometry.lat_lon(shape, first_y, west, dy, abs(dx), is_rotated=rows.is_rotated), step
