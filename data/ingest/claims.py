"""Compare the sizes that a file claims with its own size before anything of it is read into memory.

A header of a few bytes can claim 10^12 values. Libraries allocate them, and fill what the file lacks.
"""

import warnings
import zipfile
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput

MOST_RATIO = 1100
"""Largest ratio of values to stored bytes, slightly above the largest of deflate."""
ANY_RATIO_BYTES = 2**30
"""Claims up to this size are accepted at any ratio: HDF5 and Zarr do not store chunks without data."""
MOST_PIXELS = 2**28
"""Largest number of pixels in a frame, a square of 16384."""
_HDF5, _NETCDF3, _NETCDF3_OF_64_BITS = b"\x89HDF\r\n\x1a\n", (b"CDF\x01", b"CDF\x02"), b"CDF\x05"
_REMEDY = "use it only if you trust its source; copy it again, or cut it into smaller files"


def check_claims(path: Path) -> None:
    """Check the claims of an HDF5, netCDF or npz file, or a Zarr folder; do nothing for other files.

    Raises:
        BadInput: the file claims implausibly much data, or refers to data in other files.
    """
    with suppress(ImportError):  # the reader reports what is not installed
        _check_by_content(path)


def read_npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and dtype of an npy stream; leave it at the first value."""
    if np.lib.format.read_magic(stream) == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _check_by_content(path: Path) -> None:
    if path.is_dir():
        _check_zarr(path)
        return
    with path.open("rb") as stream:
        head = stream.read(8)
    if head == _HDF5:
        _check_hdf5(path)
    elif head[:4] in _NETCDF3:
        _check_netcdf3(path)
    elif head[:4] == _NETCDF3_OF_64_BITS:
        _check_netcdf5(path)
    elif head[:2] == b"PK":
        _check_npz(path)


def _check(name: str, claimed: int, stored: int, path: Path, accepted: int = ANY_RATIO_BYTES) -> None:
    if claimed > max(accepted, MOST_RATIO * stored):
        size = f"{claimed / 1e9:.3g} GB" if claimed < 1e300 else "more than 1e291 GB"
        raise BadInput(f"{name} claims {size} in {stored / 1e6:.3g} MB of the file", path, _REMEDY)


def _check_npz(path: Path) -> None:
    """Check each member's shape against its size, and that against its compressed size."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as content:
        for member in content.infolist():
            name = ascii(member.filename)[1:-1]
            _check(name, member.file_size, min(member.compress_size, size), path, accepted=2**20)
            if not name.endswith(".npy"):
                continue
            with content.open(member) as stream:
                shape, _, dtype = read_npy_header(stream)
            if dtype.hasobject:
                raise BadInput(f"{name} holds pickled objects, which can run programs", path, "save it as numbers")
            if prod(shape) * dtype.itemsize > member.file_size:
                raise BadInput(f"{name} claims the shape {shape}, but has {member.file_size} bytes", path, _REMEDY)


def _check_netcdf3(path: Path) -> None:
    """Check that no variable reaches beyond the end: libraries would fill it."""
    from scipy.io import netcdf_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it can't be closed as long as its variables exist
        try:
            netcdf_file(path, mmap=True).close()
            return
        except ValueError:
            pass
    raise _truncated(path)


def _check_netcdf5(path: Path) -> None:
    """Check the sum over all variables: netCDF-3 without compression holds every value."""
    import netCDF4

    with netCDF4.Dataset(path) as content:
        claimed = sum(prod(v.shape) * np.dtype(v.dtype).itemsize for v in content.variables.values())
    if claimed > path.stat().st_size:
        raise _truncated(path)


def _truncated(path: Path) -> BadInput:
    return BadInput("the file is truncated", path, "copy it again from its source")


def _check_hdf5(path: Path) -> None:
    import h5py

    size = path.stat().st_size
    with h5py.File(path) as file:
        # Returned and not raised, because h5py loses exceptions of these functions.
        problem = file.visititems(lambda name, item: _problem_of_dataset(name, item, size, path))
        problem = problem or file.visititems_links(lambda name, link: _problem_of_link(name, link, path))
    if problem:
        raise problem


def _problem_of_dataset(name: str, item: Any, size: int, path: Path) -> BadInput | None:
    if not hasattr(item, "shape"):
        return None
    if item.external or item.is_virtual:
        return BadInput(f"{name} refers to data in other files", path, "write a file that holds its data")
    try:
        _check(name, max(prod(item.shape or ()), prod(item.chunks or ())) * item.dtype.itemsize, size, path)
    except BadInput as problem:
        return problem
    return None


def _problem_of_link(name: str, link: Any, path: Path) -> BadInput | None:
    import h5py

    if isinstance(link, h5py.ExternalLink):
        return BadInput(f"{name} is a link to another file", path, "write a file that holds its data")
    return None


def _check_zarr(path: Path) -> None:
    import zarr

    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    opened = zarr.open(path, mode="r")
    arrays: list[tuple[str, Any]] = [(path.name, opened)]
    if isinstance(opened, zarr.Group):
        arrays = [(name, item) for name, item in opened.members(max_depth=None) if isinstance(item, zarr.Array)]
    for name, array in arrays:
        values = max(prod(array.shape), prod(array.chunks))
        _check(name, values * array.dtype.itemsize, stored, path)
