"""Write small gridded sequences with known content."""

from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.ingest.event import IngestedEvent
from polarcast.data.ingest.grids.events import plan, read_piece
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source

START = np.datetime64("2021-07-04T00:00:00", "s")
SMALL = GridSettings(tile=32, min_echo_pixels=1, min_coverage=0.3)


def times_of(count: int, minutes: float = 6) -> np.ndarray:
    return START + (np.arange(count) * minutes * 60).astype("timedelta64[s]")


def speckle(shape: tuple[int, ...], low: float = 10, high: float = 50) -> np.ndarray:
    """Return random reflectivity, rounded to the int16 packing of `write`."""
    return np.round(np.random.default_rng(0).uniform(low, high, shape), 2).astype(np.float32)


def write_npz(path: Path, data: np.ndarray, **extra: Any) -> Path:
    """Write an npz in the project's layout; keys with value None are omitted."""
    content = {"data": data, "time": times_of(len(data)), "units": "dBZ", "dx_km": 1.0, **extra}
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    return path


def sequence(data: np.ndarray, y: np.ndarray, x: np.ndarray, unit: str, **attrs: str) -> Any:
    """Return a dataset of one variable, `field`, with axes in m, km or degrees."""
    import xarray as xr

    dims = {"degrees": ("lat", "lon", "degrees_north", "degrees_east")}.get(unit, ("y", "x", unit, unit))
    axes = {dims[0]: (dims[0], y, {"units": dims[2]}), dims[1]: (dims[1], x, {"units": dims[3]})}
    variable = (("time", dims[0], dims[1]), data, {"units": "dBZ", **attrs})
    return xr.Dataset({"field": variable}, {"time": times_of(len(data)).astype("datetime64[ns]"), **axes})


def square(data: np.ndarray, step: float = 1.0, unit: str = "km", **attrs: str) -> Any:
    """Return a dataset on a plane, north first."""
    y, x = (np.arange(n) * step for n in data.shape[1:])
    return sequence(data, y[::-1], x, unit, **attrs)


def dualpol(fields: dict[str, np.ndarray], levels_km: list[float], **units: str) -> Any:
    """Return a dataset of variables (time, z, y, x) named as given, on pixels of 1 km, north first."""
    import xarray as xr

    known = {"zh": "dBZ", "zdr": "dB", "kdp": "degrees/km"}
    _, _, height, width = next(iter(fields.values())).shape
    variables = {
        name: (("time", "z", "y", "x"), values.astype(np.float32), {"units": units.get(name, known.get(name, ""))})
        for name, values in fields.items()
    }
    axes = {
        "z": ("z", np.array(levels_km) * 1000, {"units": "m", "standard_name": "altitude"}),
        "y": ("y", np.arange(height)[::-1] * 1.0, {"units": "km"}),
        "x": ("x", np.arange(width) * 1.0, {"units": "km"}),
    }
    count = len(next(iter(fields.values())))
    return xr.Dataset(variables, {"time": times_of(count).astype("datetime64[ns]"), **axes})


def save(content: Any, path: Path) -> Path:
    """Write a dataset to a NetCDF file as it is, without packing or fill values."""
    content.to_netcdf(path, encoding={name: {"_FillValue": None} for name in content.variables})
    return path


def write(content: Any, path: Path) -> Path:
    """Write packed integers to a NetCDF file or, without the suffix `.nc`, to a Zarr folder."""
    packing = {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -32768}
    packings = {name: packing for name, v in content.data_vars.items() if v.ndim > 2 and v.dtype.kind == "f"}
    if path.suffix == ".nc":
        content.to_netcdf(path, encoding=packings)
    else:
        content.to_zarr(path, consolidated=False, encoding=packings, zarr_format=2)
    return path


def events_of(path: Path | tuple[Path, ...], settings: GridSettings = SMALL) -> list[IngestedEvent]:
    pieces, _ = plan(open_source(path, settings), settings)
    return [read_piece(piece, settings) for piece in pieces]


def whole(path: Path, settings: GridSettings = SMALL) -> np.ndarray:
    """Read a whole source, (t, y, x), north up."""
    source = open_source(path, settings)
    return source.read(range(len(source.times)), *(slice(0, n) for n in source.geometry.shape))
