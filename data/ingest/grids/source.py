"""Open gridded sequences in npz, NetCDF and Zarr without reading their fields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.claims import MOST_PIXELS, check_claims
from polarcast.data.ingest.event import Field, Times
from polarcast.data.ingest.grids.axes import AS_STORED, axes_of, has_time_axis
from polarcast.data.ingest.grids.frames import (
    GridFrames,
    NpzFrames,
    XarrayFrames,
    npz_shape,
    open_dataset,
    read_errors_as_bad_input,
)
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.units import is_known_name, is_quantity, is_rain_name, quantity_of
from polarcast.data.ingest.ranges import SPACING_KM

LONGEST_KM = 45_000.0
"""Longest side of a grid, slightly above the circumference of the Earth."""
_CORNER = ("lat0", "lon0", "dlat", "dlon")


@dataclass(frozen=True)
class Packing:
    """Packing of values: value = stored · scale + offset, except for `nodata`."""

    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None

    def unpack(self, stored: npt.NDArray[Any], factor: float = 1.0) -> npt.NDArray[np.float64]:
        """Return unpacked values times a factor; NaN where missing."""
        values = (stored.astype(np.float64) * self.scale + self.offset) * factor
        return values if self.nodata is None else np.where(stored == self.nodata, np.nan, values)


@dataclass(frozen=True)
class GriddedSource:
    """One gridded sequence.

    Attributes:
        path: File or Zarr folder.
        quantity: `zh` (dBZ) or `rain_rate`.
        factor: Conversion factor to mm/h; 1 for reflectivity.
        times: (n,) UTC, ascending, without duplicates.
        index: (n,) position of each time in the file.
        geometry: Geometry of the pixels.
        note: Properties found in the file, and assumptions.
        frames: Reader of the stored frames.
        packing: Packing of the stored values.
    """

    path: Path
    quantity: str
    factor: float
    times: Times
    index: npt.NDArray[np.int64]
    geometry: Geometry
    note: dict[str, Any]
    frames: GridFrames = field(repr=False)
    packing: Packing = field(default_factory=Packing, repr=False)

    @property
    def has_rain(self) -> bool:
        """Whether the source has rain and not reflectivity."""
        return self.quantity == "rain_rate"

    def each(self, frames: Sequence[int], rows: slice, columns: slice) -> Iterator[Field]:
        """Yield a window of each frame, given by its position in `times`: (y, x) in dBZ or mm/h, north up.

        Missing data are NaN; so is negative rain, which some products use as a missing code. Reflectivity may be −inf.

        Raises:
            BadInput: The file is damaged.
        """
        numbers = self.index[np.asarray(frames, dtype=np.int64)].tolist()
        with read_errors_as_bad_input(self.path):
            for stored in self.frames.read(numbers, self.geometry.rows_in_file(rows), columns):
                yield self._decoded(stored)

    def read(self, frames: Sequence[int], rows: slice, columns: slice) -> Field:
        """Return the windows of `each` as one array (t, y, x)."""
        return np.stack(list(self.each(frames, rows, columns)))

    def _decoded(self, stored: npt.NDArray[Any]) -> Field:
        values = self.packing.unpack(stored, self.factor)
        is_valid = values >= 0 if self.has_rain else values < np.inf
        field = np.where(is_valid, values, np.nan).astype(np.float32)
        return field[::-1] if self.geometry.south_first else field


@dataclass(frozen=True)
class _Opened:
    """Variable of an opened file with its metadata."""

    units: str
    times: Times
    geometry: Geometry
    note: dict[str, Any]
    frames: GridFrames
    packing: Packing = field(default_factory=Packing)
    named_rain: bool = False


def open_source(path: Path, settings: GridSettings) -> GriddedSource:
    """Open a gridded sequence.

    Raises:
        BadInput: The file is not a sequence in a known layout, has no time axis or unknown units, or has several
            candidate variables.
    """
    with read_errors_as_bad_input(path):
        check_claims(path)
        opened = _open_npz(path, settings) if path.suffix == ".npz" else _open_xarray(path, settings)
    _check_geometry(opened.geometry, path)
    units = settings.units or opened.units
    quantity, factor = quantity_of(units, path, named_rain=opened.named_rain)
    times, index, times_note = _in_order(opened.times, path)
    note = {**opened.note, "units": units, **times_note}
    return GriddedSource(
        path, quantity, factor, times, index, opened.geometry, note, opened.frames,
        _overridden(opened.packing, settings),
    )  # fmt: skip


def _check_geometry(geometry: Geometry, path: Path) -> None:
    """Check that a grid has pixels that fit on the Earth: others would become millions of tiles."""
    if not 0 < prod(geometry.shape) <= MOST_PIXELS:
        raise BadInput(f"frames of {geometry.shape} pixels", path, f"give at most {MOST_PIXELS} pixels, in parts")
    if not np.isfinite(geometry.corner or 0).all():
        raise BadInput(f"a corner at {geometry.corner}", path, "give its latitude and longitude in degrees")
    least, most = SPACING_KM
    sides = [n * s for n, s in zip(geometry.shape, geometry.spacing_km, strict=True)]
    if not (all(least <= s <= most for s in geometry.spacing_km) and max(sides) <= LONGEST_KM):
        found = " × ".join(f"{s:.3g}" for s in geometry.spacing_km)
        raise BadInput(f"pixels of {found} km", path, f"give {least:g} to {most:g} km, on one Earth: --spacing-km")


def _in_order(times: Times, path: Path) -> tuple[Times, npt.NDArray[np.int64], dict[str, Any]]:
    """Return ascending unique times, the position of each in the file, and a note on duplicates and sorting."""
    if not len(times) or np.isnat(times).any():
        raise BadInput("frames without a time", path, "give every frame a time")
    order = np.argsort(times, kind="stable")
    is_first = np.concatenate([[True], np.diff(times[order]) > np.timedelta64(0, "s")])
    note: dict[str, Any] = {"duplicate_times": int((~is_first).sum())} if not is_first.all() else {}
    if (np.diff(order) < 0).any():
        note["sorted_by_time"] = True
    return times[order][is_first], order[is_first], note


def _overridden(packing: Packing, settings: GridSettings) -> Packing:
    given = (settings.scale, settings.offset, settings.nodata)
    found = (packing.scale, packing.offset, packing.nodata)
    scale, offset, nodata = (f if g is None else g for g, f in zip(given, found, strict=True))
    return Packing(1.0 if scale is None else scale, offset or 0.0, nodata)


def _open_npz(path: Path, settings: GridSettings) -> _Opened:
    """Open an npz with keys data (t, y, x), time; scale, offset, nodata, units; dx_km, or lat0, lon0, dlat, dlon."""
    with np.load(path, allow_pickle=False) as content:
        arrays = {key: content[key] for key in content.files if key != "data"}
        keys = list(content.files)
    for key in ("data", "time"):
        if key not in keys:
            raise BadInput(f"no {key!r} among {', '.join(keys)}", path, "write data (t, y, x) and time (t,)")
    shape, times = npz_shape(path), arrays["time"]
    if len(shape) != 3 or times.shape != shape[:1]:
        raise BadInput(f"data {shape} and {times.size} times", path, "write data (t, y, x) and time (t,)")
    if not np.issubdtype(times.dtype, np.datetime64):
        raise BadInput(f"time is {times.dtype}", path, "write it as datetime64 in UTC")
    geometry, note = _npz_geometry(arrays, shape[1:], settings.spacing_km, path)
    numbers = {k: float(arrays[k]) for k in ("scale", "offset", "nodata") if k in arrays}
    return _Opened(
        str(arrays.get("units", "")), times.astype("datetime64[s]"), geometry, {"layout": "npz", **note},
        NpzFrames(path), Packing(**numbers),
    )  # fmt: skip


def _npz_geometry(
    arrays: dict[str, npt.NDArray[Any]], shape: tuple[int, ...], spacing_km: float | None, path: Path
) -> tuple[Geometry, dict[str, Any]]:
    missing = [k for k in _CORNER if k not in arrays]
    if 0 < len(missing) < len(_CORNER):
        raise BadInput(f"no {missing[0]!r}", path, "give lat0, lon0, dlat and dlon for a grid in degrees")
    found: dict[str, Any]
    if missing:
        given = spacing_km or (float(arrays["dx_km"]) if "dx_km" in arrays else None)
        found = {"north": AS_STORED, "spacing": given or "1 km, assumed"}
        return Geometry.plane(shape, given or 1.0, given or 1.0), found
    grid = Geometry.lat_lon(shape, *(float(arrays[k]) for k in _CORNER))
    found = {"north": "by dlat", "spacing": spacing_km or list(grid.spacing)}
    return (Geometry.plane(shape, spacing_km, spacing_km, grid.south_first) if spacing_km else grid), found


def _open_xarray(path: Path, settings: GridSettings) -> _Opened:
    """Open a CF variable (time, y, x) with units and axes; xarray undoes its packing."""
    with open_dataset(path) as content:
        name = settings.variable or _only_candidate(content, path)
        if name not in content:
            raise BadInput(f"no variable {name!r}", path, f"choose from: {', '.join(map(str, content.data_vars))}")
        array = content[name]
        axes = axes_of(array, settings.spacing_km, path)
        note = {"layout": "Zarr" if path.is_dir() else "NetCDF", "variable": name, **axes.note}
        return _Opened(
            str(array.attrs.get("units", "")), axes.times, axes.geometry, note,
            XarrayFrames(path, name, axes.dims, axes.from_east), named_rain=is_rain_name(*_names(array)),
        )  # fmt: skip


def _only_candidate(content: Any, path: Path) -> str:
    """Return the only candidate variable, selected by axes, then by units, then by names."""
    sequences = [str(n) for n, v in content.data_vars.items() if has_time_axis(v)]
    fitting = [n for n in sequences if _has_fitting_units(content[n])] or sequences
    if not fitting:
        all_variables = ", ".join(map(str, content.data_vars)) or "none"
        raise BadInput("no variable of (time, y, x)", path, f"give one with a time axis (present: {all_variables})")
    named = [n for n in fitting if is_known_name(*_names(content[n]))]
    fitting = named if len(named) == 1 else fitting
    if len(fitting) > 1:
        raise BadInput(f"several candidate variables: {', '.join(fitting)}", path, "choose one with --variable")
    return fitting[0]


def _has_fitting_units(array: Any) -> bool:
    return is_quantity(str(array.attrs.get("units", "")), named_rain=is_rain_name(*_names(array)))


def _names(array: Any) -> tuple[str, str]:
    return str(array.name), str(array.attrs.get("standard_name", ""))
