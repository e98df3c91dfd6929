"""Compare the sizes that a file claims with its own size before anything of it is read into memory.

A header of a few bytes can claim 10^12 values. Libraries allocate them, and fill what the file lacks.
"""

import os
import stat
import warnings
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.files import open_regular
from polarcast.data.npz import CLAIM_FIX, check_claim, check_npz

ANY_RATIO_BYTES = 2**30
"""Claims up to this size are accepted at any ratio: HDF5 and Zarr do not store chunks without data."""
ANY_CHUNK_BYTES = 2**26
"""Chunks may unpack to this size, however few values their array has in each."""
MOST_PIXELS = 2**28
"""Largest number of pixels in a frame, a square of 16384."""
_ZSTD = b"\x28\xb5\x2f\xfd"
HDF5, _NETCDF3, _NETCDF3_OF_64_BITS = b"\x89HDF\r\n\x1a\n", (b"CDF\x01", b"CDF\x02"), b"CDF\x05"
NETCDF3 = (*_NETCDF3, _NETCDF3_OF_64_BITS)
"""First bytes of netCDF-3 files of every version."""


def check_claims(path: Path) -> None:
    """Check the claims of an HDF5, netCDF or npz file, or a Zarr folder; do nothing for other files.

    Raises:
        BadInput: the file claims implausibly much data, or refers to data in other files.
    """
    with suppress(ImportError):  # the reader reports what is not installed
        _check_by_content(path)


def _check_by_content(path: Path) -> None:
    if path.is_dir():
        _check_zarr(path)
        return
    with open_regular(path) as stream:
        head = stream.read(8)
    if head == HDF5:
        _check_hdf5(path)
    elif head[:4] in _NETCDF3:
        _check_netcdf3(path)
    elif head[:4] == _NETCDF3_OF_64_BITS:
        _check_netcdf5(path)
    elif head[:2] == b"PK":
        check_npz(path)


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
        claimed = max(prod(item.shape or ()), prod(item.chunks or ())) * item.dtype.itemsize
        check_claim(name, claimed, size, path, ANY_RATIO_BYTES)
    except BadInput as problem:
        return problem
    return None


def _problem_of_link(name: str, link: Any, path: Path) -> BadInput | None:
    import h5py

    if isinstance(link, h5py.ExternalLink):
        return BadInput(f"{name} is a link to another file", path, "write a file that holds its data")
    return None


def _check_zarr(path: Path) -> None:
    """Check that files are regular, and the claims of arrays and of chunks that tell their size when decoded."""
    import zarr

    stored = _stored_bytes(path)
    opened = zarr.open(path, mode="r")
    arrays: list[tuple[str, Any]] = [("", opened)]
    if isinstance(opened, zarr.Group):
        arrays = [(name, item) for name, item in opened.members(max_depth=None) if isinstance(item, zarr.Array)]
    for name, array in arrays:
        values = max(prod(array.shape), prod(array.chunks))
        check_claim(name or path.name, values * array.dtype.itemsize, stored, path, ANY_RATIO_BYTES)
        _check_chunks(path / name, array, path)


def _stored_bytes(path: Path) -> int:
    """Return the size of a folder's files. Raises BadInput if one is a link, a pipe or a device."""
    stored = 0
    for file in path.rglob("*"):
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            where = ascii(str(file.relative_to(path)))[1:-1]
            raise BadInput(f"{where} is not a regular file", path, "copy the folder with its content in place of links")
        stored += status.st_size
    return stored


def _check_chunks(folder: Path, array: Any, path: Path) -> None:
    most = max(ANY_CHUNK_BYTES, 2 * prod(array.chunks) * array.dtype.itemsize)
    is_blosc = array.shards is None and any("Blosc" in type(codec).__name__ for codec in array.compressors)
    for file in folder.rglob("*"):
        if not file.is_file() or file.name.startswith(".") or file.name == "zarr.json":
            continue
        with open_regular(file) as stream:
            decoded = _decoded_bytes(stream.read(18), is_blosc)
        if decoded > most:
            raise BadInput(f"chunk {ascii(file.name)[1:-1]} unpacks to {decoded / 1e9:.3g} GB", path, CLAIM_FIX)


def _decoded_bytes(head: bytes, is_blosc: bool) -> int:
    """Return the size that the head of a Blosc chunk or a zstd frame tells; 0 if it tells none."""
    if is_blosc:
        return int.from_bytes(head[4:8], "little")
    if head[:4] != _ZSTD or len(head) < 6:
        return 0
    is_single, code = head[4] >> 5 & 1, head[4] >> 6
    length = (is_single, 2, 4, 8)[code]
    start = 5 + (not is_single) + (0, 1, 2, 4)[head[4] & 3]
    return int.from_bytes(head[start : start + length], "little") + 256 * (length == 2)
