"""Read forecasts of other software from an npz or a NetCDF file."""

import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, not_installed
from polarcast.data.files import open_regular
from polarcast.data.ingest.claims import HDF5, NETCDF3, check_claims
from polarcast.hpc.leaderboard.forecasts import ForecastSet, read_forecasts

_WINDOW = ("event", "frame")
_FIELDS = ("forecast", "rain_rate", "zh")
"""Names of the forecasts in a NetCDF file, the first that is there."""
_CLASSIC = (b"CDF\x01", b"CDF\x02")
_FIX = "give variables event (n), frame (n), and forecast (n, m, y, x) of rain or (n, m, t, z, y, x) of zh"


def read_claim(path: Path) -> ForecastSet:
    """Read forecasts by the first bytes of the file, whatever its name.

    Classic NetCDF needs no further package. NetCDF 4 needs netCDF4, of the extra `ingest`.

    Raises:
        BadInput: the file is missing or damaged, claims implausibly much data, or lacks an array; see `read_forecasts`.
    """
    try:
        with open_regular(path) as stream:
            head = stream.read(8)
    except OSError as error:
        raise BadInput(error.strerror or "can't be read", path, "give an .npz or NetCDF file") from None
    if head != HDF5 and head[:4] not in NETCDF3:
        return read_forecasts(path)
    try:
        check_claims(path)
        arrays = _classic(path) if head[:4] in _CLASSIC else _netcdf4(path)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, IndexError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadInput(f"no forecasts ({reason})", path, _FIX) from None
    try:
        return replace(read_forecasts(arrays), where=str(path))
    except BadInput as error:
        raise error.at(path) from None


def _classic(path: Path) -> dict[str, Any]:
    from scipy.io import netcdf_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with netcdf_file(path, mmap=False, maskandscale=True) as file:
            return {_name(name): _native(file.variables[name][...]) for name in _chosen(file.variables, path)}


def _netcdf4(path: Path) -> dict[str, Any]:
    try:
        import netCDF4
    except ImportError:
        raise not_installed("netCDF4", path, "ingest") from None
    with netCDF4.Dataset(path) as file:
        return {_name(name): _native(file.variables[name][...]) for name in _chosen(file.variables, path)}


def _chosen(names: Iterable[str], path: Path) -> list[str]:
    """Return the names of the arrays to read. Raises BadInput if one is missing."""
    there = set(names)
    fields = next((name for name in _FIELDS if name in there), "")
    missing = [name for name in _WINDOW if name not in there] + ["forecast"] * (not fields)
    if not missing:
        return [*_WINDOW, fields]
    what = f"has no variable {missing[0]}"
    if fields in ("rain_rate", "zh"):
        what += ", so that the windows of its forecasts are unknown"
    raise BadInput(what, path, _FIX)


def _name(name: str) -> str:
    return name if name in _WINDOW else "forecast"


def _native(values: Any) -> Any:
    """Return an array in the byte order of this machine, which torch needs; a fill value is masked."""
    array = np.ma.asarray(values)
    whole = array.filled() if not np.ma.getmaskarray(array).any() else array
    with suppress(ValueError, AttributeError):
        return whole.astype(whole.dtype.newbyteorder("="), copy=False)
    return whole
