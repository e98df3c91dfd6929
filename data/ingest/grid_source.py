"""Gridded sequences as they lie in files: npz, NetCDF and Zarr, opened without reading their fields."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Field, Times
from polarcast.data.ingest.grid_geometry import Geometry, geometry_of_axes
from polarcast.data.ingest.grid_settings import GridSettings

_PER_HOUR = re.compile(r"(mm|kg m-?\^?-?2)\s*(/|per)?\s*(h|hr|hour)(\^?-1)?s?")
_PER_MINUTES = re.compile(r"mm\s*(/|per)\s*(\d+)\s*min(utes)?")
_PER_SECOND = re.compile(r"(mm|kg m-?\^?-?2)\s*(/|per)?\s*s(\^?-1)?")


@dataclass(frozen=True)
class GriddedSource:
    """One gridded sequence.

    Attributes:
        path: The file, or the Zarr folder.
        quantity: `zh` (dBZ) or `rain_rate`.
        factor: Turns the file's rain into mm/h; 1 for reflectivity.
        times: (n,) UTC, ascending, without duplicates.
        index: (n,) where each of them lies in the file.
        geometry: Where the pixels are.
        note: What was found and assumed.
    """

    path: Path
    quantity: str
    factor: float
    times: Times
    index: npt.NDArray[np.int64]
    geometry: Geometry
    note: dict[str, Any]
    settings: GridSettings = field(repr=False)

    @property
    def has_rain(self) -> bool:
        """Whether it holds rain, not reflectivity."""
        return self.quantity == "rain_rate"

    def read(self, frames: Sequence[int], rows: slice, columns: slice) -> Field:
        """Frames (by their place in `times`) of a window, (t, y, x) in dBZ or mm/h, north up; NaN where missing."""
        rows = self.geometry.rows_in_file(rows)
        values = self._stored.window(self.index[np.asarray(frames)], rows, columns)
        return np.asarray((values[:, ::-1] if self.geometry.south_first else values) * np.float32(self.factor))

    @cached_property
    def _stored(self) -> "Stored":
        return _open(self.path, self.settings)


@dataclass(frozen=True)
class Stored:
    """A (time, y, x) variable of a file with what is known of it."""

    values: Any
    times: Times
    units: str
    geometry: Geometry
    note: dict[str, Any]
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None

    def window(self, frames: npt.NDArray[np.int64], rows: slice, columns: slice) -> Field:
        """Part of the variable, as float32 with NaN where missing."""
        part = np.stack([np.asarray(self.values[int(frame), rows, columns]) for frame in frames])
        decoded = part.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return decoded if self.nodata is None else np.where(part == self.nodata, np.float32(np.nan), decoded)


def open_source(path: Path, settings: GridSettings) -> GriddedSource:
    """Open a gridded sequence.

    Raises:
        BadInput: not a sequence in a known layout; no time axis; unknown units; several variables it could be.
    """
    try:
        stored = _open(path, settings)
    except BadInput:
        raise
    except Exception as error:  # what a damaged file makes of a library can't be foreseen
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise BadInput(f"can't be read as a gridded sequence ({reason})", path, "copy it again") from None
    quantity, factor = quantity_of(settings.units or stored.units, path)
    order = np.argsort(stored.times, kind="stable")
    first = np.concatenate([[True], np.diff(stored.times[order]) > np.timedelta64(0, "s")])
    dropped = int((~first).sum())
    note = {**stored.note, "units": settings.units or stored.units, **({"duplicate_times": dropped} if dropped else {})}
    return GriddedSource(
        path, quantity, factor, stored.times[order][first], order[first], stored.geometry, note, settings
    )


def quantity_of(units: str, path: Path | str = "") -> tuple[str, float]:
    """(`zh`, 1) or (`rain_rate`, factor to mm/h) of a unit.

    Raises:
        BadInput: neither a reflectivity nor a rain rate.
    """
    plain = units.strip().lower()
    if plain in ("dbz", "dbz(e)", "dbze"):
        return "zh", 1.0
    if _PER_HOUR.fullmatch(plain):
        return "rain_rate", 1.0
    if found := _PER_MINUTES.fullmatch(plain):
        return "rain_rate", 60 / int(found[2])
    if _PER_SECOND.fullmatch(plain):
        return "rain_rate", 3600.0
    known = "dBZ, mm/h, 'mm per 5 min'"
    raise BadInput(f"units {units!r}" if units else "no units", path, f"say what they are, for example --units {known}")


def _open(path: Path, settings: GridSettings) -> Stored:
    return _open_npz(path, settings) if path.suffix == ".npz" else _open_xarray(path, settings)


def _open_npz(path: Path, settings: GridSettings) -> Stored:
    """The layout: data (t, y, x), time; scale, offset, nodata, units; dx_km, or lat0, lon0, dlat, dlon."""
    with np.load(path, allow_pickle=False) as content:
        there = {key: content[key] for key in content.files}
    for key in ("data", "time"):
        if key not in there:
            raise BadInput(f"no {key!r}; it has {', '.join(there)}", path, "an npz needs data (t, y, x) and time (t,)")
    values = there["data"]
    if values.ndim != 3 or len(there["time"]) != len(values):
        raise BadInput(f"data {values.shape} and {len(there['time'])} times", path, "data must be (t, y, x)")
    numbers = {k: float(there[k]) for k in ("scale", "offset", "nodata", "dx_km") if k in there}
    angles = [float(there[k]) for k in ("lat0", "lon0", "dlat", "dlon")] if "lat0" in there else None
    spacing = settings.spacing_km or numbers.get("dx_km", 1.0)
    return Stored(
        values,
        there["time"].astype("datetime64[s]"),
        str(there.get("units", "")),
        Geometry.lat_lon(values.shape[1:], *angles) if angles else Geometry.plane(values.shape[1:], spacing, spacing),
        {"layout": "npz", "north": "by dlat" if angles else "first row, as stored"},
        numbers.get("scale", 1.0),
        numbers.get("offset", 0.0),
        numbers.get("nodata"),
    )


def _open_xarray(path: Path, settings: GridSettings) -> Stored:
    """CF: a variable of (time, y, x) with units and axes; packing and fill values are xarray's business."""
    try:
        import xarray as xr
    except ImportError as error:
        raise BadInput(f"{error.name} is not installed", "ingest", "pip install 'polarcast[ingest]'") from None
    is_zarr = path.suffix == ".zarr"
    content = (
        xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None) if is_zarr else xr.open_dataset(path)
    )
    name = settings.variable or _only_candidate(content, path)
    if name not in content:
        raise BadInput(f"no variable {name!r}", path, f"it has {', '.join(map(str, content.data_vars))}")
    array = content[name]
    time = next((d for d in array.dims if np.issubdtype(content[d].dtype, np.datetime64)), None)
    if time is None or array.ndim != 3:
        raise BadInput(f"{name} is {array.dims}, not (time, y, x)", path, "give a sequence with a time axis")
    array = array.transpose(time, ...)
    return Stored(
        _Lazy(array),
        array[time].values.astype("datetime64[s]"),
        str(array.attrs.get("units", "")),
        geometry_of_axes(array, settings.spacing_km, path),
        {"layout": "Zarr" if is_zarr else "NetCDF", "variable": name, "north": "by the y axis"},
    )


@dataclass(frozen=True)
class _Lazy:
    """A variable of xarray, read as it is indexed."""

    array: Any

    def __getitem__(self, key: tuple[int, slice, slice]) -> Any:
        return self.array[key].values


def _only_candidate(content: Any, path: Path) -> str:
    """The one variable that could be it: three axes, and units of reflectivity or rain."""
    three = [str(n) for n, v in content.data_vars.items() if v.ndim == 3]
    fitting = [n for n in three if _is_quantity(str(content[n].attrs.get("units", "")))] or three
    if not fitting:
        raise BadInput(
            "no variable of (time, y, x)", path, f"it has {', '.join(map(str, content.data_vars)) or 'none'}"
        )
    if len(fitting) > 1:
        raise BadInput(f"it could be any of {', '.join(fitting)}", path, "choose one with --variable")
    return fitting[0]


def _is_quantity(units: str) -> bool:
    try:
        quantity_of(units)
    except BadInput:
        return False
    return True
